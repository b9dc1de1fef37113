/*
 * What is mounted where, by the kernel's table of mounts.
 *
 * Knows lines of /proc/self/mountinfo; never touches a mount: that could hang.
 */
#ifndef CCFS_MOUNTINFO_H
#define CCFS_MOUNTINFO_H

#include <stdbool.h>

/*
 * Returns whether this process finds at `path` the file system of a device ("MAJOR:MINOR").  `path`
 * is absolute, without symbolic links, and has no character that the table escapes.  Where the
 * table can't be read, errno says why; it is 0 where nothing of the kind is there.
 */
bool ccfs_is_mounted(const char *path, const char *device);

#endif
