# SPDX-License-Identifier: MIT
# Run in a mount namespace of its own: shared_parent.sh DIRECTORY PYTHON
# A "container" has the parent directory of the mount by a bind mount with slave propagation; it
# prints the server's id before and after the daemon is killed, as the container sees it.
directory=$1 python=$2
mount -t tmpfs -o mode=700 none "$directory"
mount --make-shared "$directory"
mkdir "$directory/user" "$directory/inside"
end() {
    "$python" -m ccfs unmount "$directory/user/ccfs" || umount -l "$directory/user/ccfs"
}
trap end EXIT
"$python" -m ccfs mount --journal "$directory/journal" "$directory/user/ccfs" >/dev/null
daemon=$(sed -n 's/^pid: //p' "$directory/user/ccfs/info")
unshare -m --propagation slave timeout 30 sh -e -c '
    directory=$1 daemon=$2
    see() { sed -n "s/^server_id: //p" "$directory/inside/ccfs/info" 2>/dev/null || :; }
    mount --rbind "$directory/user" "$directory/inside"
    before=$(see)
    echo "$before"
    kill -9 "$daemon"
    after=$(see)
    while [ -z "$after" ] || [ "$after" = "$before" ]; do after=$(see); done
    echo "$after"
' sh "$directory" "$daemon"
