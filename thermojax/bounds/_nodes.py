"""The quadrature of Gauss and Legendre, four points on [0, 1]: exact for polynomials of the seventh degree."""

import numpy as np

_x, _w = np.polynomial.legendre.leggauss(4)
NODES, WEIGHTS = 0.5 * (1 + _x), 0.5 * _w
