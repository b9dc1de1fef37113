/* SPDX-License-Identifier: MIT */
/*
 * The kernel's mount table, /proc/self/mountinfo.
 *
 * Knows its lines; never makes a system call on a mount: that could hang.
 */
#ifndef CCFS_MOUNTINFO_H
#define CCFS_MOUNTINFO_H

#include <stdbool.h>

/*
 * Returns true if a lookup of `path` in this process leads to the file system of a device
 * ("MAJOR:MINOR").  `path` is absolute, without symbolic links, and has no character that the table
 * escapes.  If false, errno is set where the table can't be read, and 0 where it has no such mount.
 */
bool ccfs_is_mounted(const char *path, const char *device);

#endif
