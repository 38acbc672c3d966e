#!/usr/bin/env python3
# scripts/cuda_folders.py: where NVIDIA's libraries are that the loader does not know, as LD_LIBRARY_PATH has folders.
#
# Looks where pip puts NVIDIA's wheels (site-packages/nvidia/*/lib), then where CUDA is usually installed. Prints one line,
# empty where there are none.
import glob
import os

try:
    import nvidia  # a namespace of several wheels: no code of its own
    roots = list(nvidia.__path__)
except ImportError:
    roots = []
candidates = [folder for root in roots for folder in sorted(glob.glob(root + "/*/lib"))]
candidates += ["/usr/local/cuda/lib64", *sorted(glob.glob("/usr/local/cuda-13*/lib64"))]
print(":".join(folder for folder in candidates if os.path.isdir(folder)))
