import sys,time,jax
jax.config.update("jax_enable_x64",True)
from reproduce import quick, models
import importlib
for n in sys.argv[1:]:
    m,f=n.split('.')
    mod=importlib.import_module('reproduce.'+m)
    t=time.process_time()
    for r in getattr(mod,f)():
        print('PASS' if r.passes else 'FAIL', r.what, '|', r.exact, r.theirs, r.ours, r.error, r.within)
    print(n, time.process_time()-t,'CPU s')
