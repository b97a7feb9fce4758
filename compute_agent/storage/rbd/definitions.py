"""The part of librados and librbd that is used; ``python -m compute_agent.storage.rbd.definitions`` makes `abi` of it.

To read C when it runs, cffi would take longer than to connect to a cluster; and it needs no compiler.
"""

from __future__ import annotations

from pathlib import Path

import cffi

DEFINITIONS = """
typedef void *rados_t;
typedef void *rados_ioctx_t;
typedef void *rbd_image_t;
typedef void *rbd_image_options_t;

int rados_create2(rados_t *cluster, const char *cluster_name, const char *name, uint64_t flags);
int rados_conf_read_file(rados_t cluster, const char *path);
int rados_conf_set(rados_t cluster, const char *option, const char *value);
int rados_connect(rados_t cluster);
void rados_shutdown(rados_t cluster);
int rados_getaddrs(rados_t cluster, char **addresses);
int rados_blocklist_add(rados_t cluster, char *address, uint32_t seconds);
int rados_cluster_fsid(rados_t cluster, char *buffer, size_t size);
int rados_mon_command(rados_t cluster, const char **commands, size_t count, const char *input, size_t input_size,
                      char **output, size_t *output_size, char **status, size_t *status_size);
void rados_buffer_free(char *buffer);
int rados_ioctx_create(rados_t cluster, const char *pool, rados_ioctx_t *ioctx);
void rados_ioctx_destroy(rados_ioctx_t ioctx);
int rados_stat(rados_ioctx_t ioctx, const char *object, uint64_t *size, int64_t *changed);
int rados_write_full(rados_ioctx_t ioctx, const char *object, const char *content, size_t size);
int rados_remove(rados_ioctx_t ioctx, const char *object);

int rados_lock_exclusive(rados_ioctx_t ioctx, const char *object, const char *name, const char *cookie,
                         const char *description, void *duration, uint8_t flags);
ssize_t rados_list_lockers(rados_ioctx_t ioctx, const char *object, const char *name, int *exclusive,
                           char *tag, size_t *tag_size, char *clients, size_t *clients_size,
                           char *cookies, size_t *cookies_size, char *addresses, size_t *addresses_size);
int rados_break_lock(rados_ioctx_t ioctx, const char *object, const char *name, const char *client,
                     const char *cookie);

typedef struct { char *id; char *name; } rbd_image_spec_t;
typedef struct {
    int64_t pool_id; char *pool_name; char *pool_namespace; char *image_id; char *image_name; bool trash;
} rbd_linked_image_spec_t;
typedef struct { uint64_t id; int namespace_type; char *name; } rbd_snap_spec_t;
typedef struct { uint64_t id; uint64_t size; const char *name; } rbd_snap_info_t;
typedef struct { char *addr; int64_t id; uint64_t cookie; } rbd_image_watcher_t;

void rbd_image_options_create(rbd_image_options_t *options);
int rbd_image_options_set_uint64(rbd_image_options_t options, int name, uint64_t value);
void rbd_image_options_destroy(rbd_image_options_t options);
int rbd_create4(rados_ioctx_t ioctx, const char *name, uint64_t size, rbd_image_options_t options);
int rbd_clone3(rados_ioctx_t parent_ioctx, const char *parent, const char *snapshot, rados_ioctx_t ioctx,
               const char *name, rbd_image_options_t options);
int rbd_remove(rados_ioctx_t ioctx, const char *name);
int rbd_rename(rados_ioctx_t ioctx, const char *source, const char *target);
int rbd_list2(rados_ioctx_t ioctx, rbd_image_spec_t *images, size_t *count);
void rbd_image_spec_list_cleanup(rbd_image_spec_t *images, size_t count);

int rbd_open(rados_ioctx_t ioctx, const char *name, rbd_image_t *image, const char *snapshot);
int rbd_open_read_only(rados_ioctx_t ioctx, const char *name, rbd_image_t *image, const char *snapshot);
int rbd_close(rbd_image_t image);
int rbd_get_size(rbd_image_t image, uint64_t *size);
int rbd_get_features(rbd_image_t image, uint64_t *features);
int rbd_get_id(rbd_image_t image, char *id, size_t size);
int rbd_get_parent(rbd_image_t image, rbd_linked_image_spec_t *parent, rbd_snap_spec_t *snapshot);
void rbd_linked_image_spec_cleanup(rbd_linked_image_spec_t *image);
void rbd_snap_spec_cleanup(rbd_snap_spec_t *snapshot);
int rbd_resize(rbd_image_t image, uint64_t size);
int rbd_flatten(rbd_image_t image);
int rbd_watchers_list(rbd_image_t image, rbd_image_watcher_t *watchers, size_t *count);
void rbd_watchers_list_cleanup(rbd_image_watcher_t *watchers, size_t count);
int rbd_metadata_get(rbd_image_t image, const char *key, char *value, size_t *size);
int rbd_metadata_set(rbd_image_t image, const char *key, const char *value);

int rbd_snap_create(rbd_image_t image, const char *name);
int rbd_snap_remove(rbd_image_t image, const char *name);
int rbd_snap_rollback(rbd_image_t image, const char *name);
int rbd_snap_list(rbd_image_t image, rbd_snap_info_t *snapshots, int *count);
void rbd_snap_list_end(rbd_snap_info_t *snapshots);
int rbd_snap_protect(rbd_image_t image, const char *name);
int rbd_snap_unprotect(rbd_image_t image, const char *name);
int rbd_snap_is_protected(rbd_image_t image, const char *name, int *is_protected);
int rbd_snap_get_namespace_type(rbd_image_t image, uint64_t id, int *type);
int rbd_snap_set_by_id(rbd_image_t image, uint64_t id);
int rbd_list_children3(rbd_image_t image, rbd_linked_image_spec_t *images, size_t *count);
void rbd_linked_image_spec_list_cleanup(rbd_linked_image_spec_t *images, size_t count);

int rbd_lock_get_owners(rbd_image_t image, int *mode, char **owners, size_t *count);
void rbd_lock_get_owners_cleanup(char **owners, size_t count);
int rbd_lock_break(rbd_image_t image, int mode, const char *owner);
"""


def generate(path: Path) -> None:
    """Write the module `abi` to `path`."""
    ffi = cffi.FFI()
    ffi.cdef(DEFINITIONS)
    ffi.set_source("compute_agent.storage.rbd.abi", None)
    ffi.emit_python_code(str(path))


if __name__ == "__main__":
    generate(Path(__file__).with_name("abi.py"))
