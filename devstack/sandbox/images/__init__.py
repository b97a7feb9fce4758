"""What guests boot from: built once from Debian's packages, then kept in a cache.

The first call builds and takes its time (`debian_image` about a minute); later ones only look.
"""

from sandbox.images.busybox import ramdisk
from sandbox.images.cache import cache_directory, checksum
from sandbox.images.debian import debian_image
from sandbox.images.linux import elf_kernel, kernel

__all__ = ["cache_directory", "checksum", "debian_image", "elf_kernel", "kernel", "ramdisk"]
