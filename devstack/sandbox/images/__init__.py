"""What guests boot from: built once from Debian's packages, then kept in a cache.

"""

from sandbox.images.busybox import ramdisk
from sandbox.images.cache import cache_directory, checksum
from sandbox.images.linux import kernel

