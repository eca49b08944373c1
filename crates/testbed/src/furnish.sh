# Furnishes the namespaces that it runs in as a machine: what engines and snorkel read and write at fixed places is
# private, everything else (programs, libraries, /proc, /tmp, home directories) is the real machine's.
#
#     sh furnish.sh DIR
#
# Prints "ready PID" at the end and stays, as the process whose namespaces are the machine's.
dir=$1
PATH=$PATH:/usr/sbin:/sbin

# Where the name server of the machine's resolv.conf listens (resolver.rs).
resolver=192.0.2.53
ip link set lo up
ip address add $resolver/32 dev lo
echo testbed >/proc/sys/kernel/hostname

# What engines have mounted on the real machine is nothing to this one, and could not go while it is held here too.
# Until /run is private nothing may be noted there: -n keeps mount(8) from writing to /run/mount.
findmnt -rn -o TARGET,FSTYPE | while read -r target type; do
    case $target:$type in
        /:*) ;;
        /run/* | /var/lib/* | /var/log/* | *:nsfs | *:overlay) echo "$target" ;;
    esac
done | sort -r | while read -r target; do umount -n -l "$(printf %b "$target")"; done

mount -n -t tmpfs -o mode=755 run /run
mkdir -p /run/lock /run/user /run/netns /run/containerd /run/podman /run/docker-cli
echo '{}' >/run/docker-cli/config.json
if [ ! -L /var/run ]; then mount --bind /run /var/run; fi

# /sys shows the links of the namespace in which it was mounted. What else was mounted there is kept, but for the
# cgroups, which are mounted anew: their roots are then those of the cgroup namespace, so nothing that is made below
# can be outside of what the supervisor clears away.
sys=$dir/sys
mount -t sysfs sysfs "$sys"
for sub in fs/bpf kernel/debug kernel/tracing kernel/security; do
    if mountpoint -q "/sys/$sub"; then mount --rbind "/sys/$sub" "$sys/$sub"; fi
done
findmnt -rn -o TARGET,FSTYPE,FS-OPTIONS -t cgroup,cgroup2 | sort -u -k1,1 >"$dir/hierarchies"
if ! findmnt -rn -t cgroup2 /sys/fs/cgroup >/dev/null; then
    mount -t tmpfs -o mode=755 cgroup "$sys/fs/cgroup"
    find /sys/fs/cgroup -maxdepth 1 -type l -exec cp -P {} "$sys/fs/cgroup/" \;
fi
while read -r target type options; do
    here=$dir$target
    mkdir -p "$here"
    case $type in
        cgroup2)
            mount -t cgroup2 cgroup2 "$here"
            ;;
        *)
            # A hierarchy of version 1 is named by its controllers, or by its own name.
            mount -t cgroup -o "$(echo "$options" | tr , '\n' | grep -Ev '^(rw|ro|clone_children|xattr|release_agent=.*)$' | paste -sd,)" cgroup "$here"
            ;;
    esac
    # Version 2 lets no cgroup with processes of its own give controllers to its children.
    mkdir "$here/machine"
    echo $$ >"$here/machine/cgroup.procs"
done <"$dir/hierarchies"
umount --recursive --lazy /sys
mount --move "$sys" /sys

# Rootless engines make a link of it; systemd opens it to all users (50-udev-default.rules), which is not so everywhere.
if [ -c /dev/net/tun ]; then
    mknod -m 666 "$dir/tun" c 10 200
    mount --bind "$dir/tun" /dev/net/tun
fi

cp -a /etc/. "$dir/etc"
cp -a "$dir/etc.own/." "$dir/etc"
rm -f "$dir/etc/resolv.conf"
printf '%s\n' '# the machine itself' "nameserver $resolver" "search testbed.invalid" >"$dir/etc/resolv.conf"
mkdir -p "$dir/etc/netns"
mount --bind "$dir/etc" /etc

mount --bind "$dir/lib" /var/lib
mount -t tmpfs -o mode=755 log /var/log

# As systemd does on a real machine: what a new mount namespace does not make private is seen here.
mount --make-rshared /

echo "ready $$"
exec sleep infinity >/dev/null
