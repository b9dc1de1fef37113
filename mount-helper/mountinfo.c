#include "mountinfo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Cuts a field off a line: returns it and moves the line on, NULL at its end. */
static char *next_field(char **line)
{
    return strsep(line, " ");
}

/* Returns whether whoever walks to `path` comes through `place`, before its last component. */
static bool leads_through(const char *path, const char *place)
{
    size_t length = strlen(place);

    if (length == 1 && *place == '/')
        return true;
    return strncmp(path, place, length) == 0 && path[length] == '/';
}

/*
 * Takes a line in: `ID PARENT MAJOR:MINOR ROOT PLACE ...` (proc(5)).  The last one at `path` is
 * what one finds there, unless something was mounted over a directory on the way since.
 */
static void take_in(char *line, const char *path, const char *device, bool *found)
{
    char *number = NULL, *place = NULL;

    for (int i = 0; i < 5; i++) {
        char *field = next_field(&line);

        if (field == NULL)
            return;
        if (i == 2)
            number = field;
        place = field;
    }
    if (strcmp(place, path) == 0)
        *found = strcmp(number, device) == 0;
    else if (leads_through(path, place))
        *found = false;
}

bool ccfs_is_mounted(const char *path, const char *device)
{
    bool found = false;
    char *line = NULL;
    size_t size = 0;
    int failure;
    FILE *table = fopen("/proc/self/mountinfo", "re");

    if (table == NULL)
        return false;
    errno = 0;
    while (getline(&line, &size, table) >= 0)
        take_in(line, path, device, &found);
    failure = feof(table) ? 0 : errno;
    free(line);
    fclose(table);
    errno = failure;
    return found && failure == 0;
}
