# Makes a machine, waits until nobody wants it any more, and takes it away with all that ever ran in it.
#
#     sh supervise.sh DIR CGROUP...      DIR: the machine's files; CGROUP: one directory to make in each hierarchy
#
# Whoever wants the machine holds the write end of this script's standard input. Its end of file is the order to
# clean up, and the kernel gives it also when the holder was killed. Nothing has to be undone by name: mounts, links,
# firewall and network namespaces are private to the machine and go with its last process. The cgroups tell which
# processes those are, however they were started and whoever their parent is now.
#
# Prints "ready PID" once the process with that PID holds the finished machine.
set -u
trap '' INT TERM HUP QUIT PIPE
dir=$1
shift

processes() {
    for cgroup; do find "$cgroup" -name cgroup.procs -exec cat {} + 2>/dev/null; done | sort -u
}

clean_up() {
    rounds=0
    while :; do
        for cgroup; do
            # A paused container does not die before it is thawed (cgroup v1; v2 kills the frozen too).
            find "$cgroup" -name freezer.state 2>/dev/null | while read -r state; do echo THAWED >"$state"; done
            if [ -e "$cgroup/cgroup.kill" ]; then echo 1 >"$cgroup/cgroup.kill"; fi
        done
        left=$(processes "$@")
        [ -z "$left" ] && break
        # shellcheck disable=SC2086 # one word a PID
        kill -KILL $left 2>/dev/null
        rounds=$((rounds + 1))
        if [ $rounds -gt 600 ]; then echo "processes that do not die:" $left >&2; break; fi
        sleep 0.02
    done
    for cgroup; do find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null; done
    rm -rf --one-file-system -- "$dir"
}

for cgroup; do
    mkdir -p "$cgroup"
    # A cpuset of version 1 takes no process before it has processors and memory.
    for set in cpus mems; do
        if [ -e "$cgroup/cpuset.$set" ]; then cat "$cgroup/../cpuset.$set" >"$cgroup/cpuset.$set"; fi
    done
    if [ -e "$cgroup/cgroup.clone_children" ]; then echo 1 >"$cgroup/cgroup.clone_children"; fi
done

# The holder joins the cgroups first: the roots of its cgroup namespace are then these.
sh -c '
    dir=$1
    shift
    for cgroup; do echo $$ >"$cgroup/cgroup.procs" || exit 1; done
    exec unshare --mount --net --uts --cgroup --propagation private sh -e -u "$dir/furnish.sh" "$dir"
' holder "$dir" "$@" </dev/null &
exec >/dev/null

cat >/dev/null
clean_up "$@"
