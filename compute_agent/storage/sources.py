"""Which files an instance is made from, and having all of them in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from compute_agent.errors import InvalidImage
from compute_agent.instance.block_device import SourceFile
from compute_agent.instance.model import Instance
from compute_agent.storage.contract import Progress
from compute_agent.storage.images import ImageCache
from compute_agent.storage.inspection import Kind


@contextmanager
def fetched_sources(images: ImageCache, instance: Instance, progress: Progress) -> Iterator[None]:
    """Have every file that the instance needs in the cache, and keep it there meanwhile.

    :raises InvalidImage: with the path of the field, such as ``instance.block_devices[0].image.checksum``.
    :raises InsufficientResources: no space for one of them.
    :raises StorageError: one of them cannot be read from its source.
    """
    sources = list(_sources(instance))
    with ExitStack() as held:
        for index, (field, source, kind) in enumerate(sources):
            held.enter_context(images.holding(source, kind))
            with within(field):
                images.fetch(source, kind, _share(progress, index, len(sources)))
        yield


def _sources(instance: Instance) -> Iterator[tuple[str, SourceFile, Kind]]:
    for index, device in enumerate(instance.block_devices):
        if device.image is not None and not device.image.url.startswith("rbd://"):  # what is in Ceph stays there
            yield f"instance.block_devices[{index}].image", device.image, device.image.disk_format
    if instance.direct_boot is not None:
        yield "instance.direct_boot.kernel", instance.direct_boot.kernel, "kernel"
        if instance.direct_boot.ramdisk is not None:
            yield "instance.direct_boot.ramdisk", instance.direct_boot.ramdisk, "ramdisk"


@contextmanager
def within(field: str) -> Iterator[None]:
    """Whoever refuses a file or a disk knows its own fields only, and not where in the message it stands."""
    try:
        yield
    except InvalidImage as error:
        raise InvalidImage(f"{field}.{error.field}", error.value, error.reason) from error


def _share(progress: Progress, index: int, count: int) -> Progress:
    """One file's percentage as its share of all, told when it has changed."""
    told = -1

    def report(percent: int) -> None:
        nonlocal told
        overall = (index * 100 + percent) // count
        if overall > told:
            told = overall
            progress(overall)

    return report
