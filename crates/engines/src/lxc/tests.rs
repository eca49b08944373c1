use super::*;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

fn asked(socket: &[u8], name: &MonitorName, deadline: Instant) -> io::Result<Option<Container>> {
    ask(Conversation::open(socket, deadline)?, socket, name, deadline)
}

/// A monitor that answers so many commands with what a container with this init would.
fn fake_monitor(name: &str, init: i32, commands: usize) -> std::thread::JoinHandle<()> {
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    std::thread::spawn(move || {
        for _ in 0..commands {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = [0; MESSAGE];
            client.read_exact(&mut request).unwrap();
            let (value, data): (i32, &[u8]) = match i32::from_ne_bytes(request[..4].try_into().unwrap()) {
                GET_INIT_PID => (init, b""),
                GET_STATE => (2, b""),
                GET_NAME => (0, b"a-long-name\0"),
                other => panic!("command {other}"),
            };
            let mut answer = [0u8; MESSAGE];
            answer[4..8].copy_from_slice(&(data.len() as i32).to_ne_bytes());
            answer[8..12].copy_from_slice(&value.to_ne_bytes());
            client.write_all(&answer).unwrap();
            client.write_all(data).unwrap();
        }
    })
}

#[test]
fn a_monitor_is_asked_for_name_process_and_state() {
    let socket = format!("lxc/{:016x}/command", std::process::id());
    let monitor = fake_monitor(&socket, Pid::own().get(), 3);
    let deadline = Instant::now() + Duration::from_secs(10);
    let found =
        asked(socket.as_bytes(), &monitor_name(socket.as_bytes()).unwrap(), deadline).unwrap().unwrap();
    monitor.join().unwrap();
    assert_eq!(found.qualified(), "lxc:a-long-name");
    assert_eq!(
        (found.pid, found.state, found.status.as_str()),
        (Some(Pid::own()), State::Running, "RUNNING")
    );
}

#[test]
fn a_monitor_that_says_nothing_is_given_up() {
    let name = format!("/tmp/{}/lxc/web/command", std::process::id());
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let _silent = UnixListener::bind_addr(&address).unwrap();
    let deadline = Instant::now() + Duration::from_millis(50);
    let error =
        asked(name.as_bytes(), &MonitorName::Plain { dir: "/x".into(), name: "web".into() }, deadline)
            .unwrap_err();
    assert!(is_timeout(&error), "{error}");
}

/// Listens on these names as nobody, and never answers.
fn silent_strangers(names: Vec<String>) -> Vec<UnixListener> {
    assert_eq!(users::own_uid(), 0, "this test needs root");
    let listen = move || {
        let (root, nobody) = (rustix::fs::Uid::from_raw(0), rustix::fs::Uid::from_raw(65534));
        // Of this thread alone (setresuid(2), C library/kernel differences).
        rustix::thread::set_thread_res_uid(root, nobody, root).unwrap();
        let address = |name: &String| SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        names.iter().map(|name| UnixListener::bind_addr(&address(name)).unwrap()).collect()
    };
    std::thread::spawn(listen).join().unwrap()
}

#[test]
fn strangers_that_never_answer_keep_nobody_waiting_but_those_who_wait_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().display().to_string();
    let at = |dir: &str| format!("{base}/{dir}");
    // His own containers, and such names as anybody could take.
    let own: Vec<String> = (0..3).map(|i| at(&format!("his/lxc/y{i}"))).collect();
    for dir in &own {
        fs::create_dir_all(dir).unwrap();
        std::os::unix::fs::chown(dir, Some(65534), None).unwrap();
    }
    let taken = (0..5).map(|i| at(&format!("lxc/z{i}")));
    let names: Vec<String> = own.into_iter().chain(taken).map(|dir| format!("{dir}/command")).collect();
    let root = at("lxc/box/command");
    let lines = names.iter().chain([&root]).map(|name| format!("0: 2 0 00010000 1 01 7 @{name}\n"));
    let sockets = dir.path().join("unix");
    fs::write(&sockets, format!("h\n{}", lines.collect::<String>())).unwrap();
    let _silent = silent_strangers(names);
    let monitor = fake_monitor(&root, Pid::own().get(), 2);
    let sink = Sink::default();
    list(&LxcPlaces { sockets, dirs: Vec::new() }, Duration::from_secs(1), &sink).unwrap();
    monitor.join().unwrap();
    let taken = sink.take();
    assert_eq!(taken.containers.iter().map(Container::qualified).collect::<Vec<_>>(), ["lxc:box"]);
    let told: Vec<String> = taken.faults.iter().map(ToString::to_string).collect();
    let expected = format!(
        "3 monitors of user nobody, @{} among them, did not answer within 1 s",
        at("his/lxc/y0/command")
    );
    assert_eq!(told, [expected]);
}

#[test]
fn one_monitor_is_asked_again_without_the_others() {
    let socket = format!("/tmp/{}/lxc/again/command", std::process::id());
    let monitor = fake_monitor(&socket, Pid::own().get(), 2);
    let sink = Sink::default();
    recheck(format!("@{socket}").as_ref(), Duration::from_secs(10), &sink).unwrap();
    monitor.join().unwrap();
    let again = sink.take().containers.pop().unwrap();
    assert_eq!((again.id.as_str(), again.pid, again.keeper), ("again", Some(Pid::own()), Some(Pid::own())));
    // It has ended.
    recheck(format!("@{socket}").as_ref(), Duration::from_secs(10), &sink).unwrap();
    assert!(sink.take().containers.is_empty());
}

#[test]
fn stopped_containers_are_found_by_their_directories() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("web")).unwrap();
    fs::write(dir.path().join("web/config"), "lxc.uts.name = web\n").unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    let sockets = dir.path().join("unix");
    fs::write(&sockets, "").unwrap();
    let sink = Sink::default();
    list(&LxcPlaces { sockets, dirs: vec![dir.path().into()] }, Duration::from_secs(10), &sink).unwrap();
    let found = sink.take().containers;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].qualified().as_str(), found[0].state), ("lxc:web", State::Stopped));
}

#[test]
fn stopped_containers_of_lxd_are_links_into_its_storage() {
    let dir = tempfile::tempdir().unwrap();
    let containers = dir.path().join("containers");
    fs::create_dir(&containers).unwrap();
    // The pool need not be mounted.
    std::os::unix::fs::symlink("/x/storage-pools/p/containers/web", containers.join("web")).unwrap();
    std::os::unix::fs::symlink("/x/elsewhere", containers.join("other")).unwrap();
    let sockets = dir.path().join("unix");
    // One of the same name runs, but it is LXC's.
    let (lxc, own) = (dir.path().join("lxc"), format!("{}/lxc/web/command", dir.path().display()));
    fs::write(&sockets, format!("h\n0: 2 0 00010000 1 01 7 @{own}\n")).unwrap();
    let monitor = fake_monitor(&own, Pid::own().get(), 2);
    let sink = Sink::default();
    let places = LxcPlaces { sockets, dirs: vec![lxc, containers] };
    list(&places, Duration::from_secs(10), &sink).unwrap();
    monitor.join().unwrap();
    let found = sink.take().containers;
    let all: Vec<_> = found.iter().map(|c| (c.id.as_str(), c.state)).collect();
    assert_eq!(all, [("web", State::Running), ("web", State::Stopped)]);
}

#[test]
fn only_names_of_monitors_are_taken_for_monitors() {
    let plain = |dir: &str, name: &str| Some(MonitorName::Plain { dir: dir.into(), name: name.into() });
    assert_eq!(monitor_name(b"/var/lib/lxc/web/command"), plain("/var/lib/lxc", "web"));
    assert_eq!(
        monitor_name(b"/var/snap/lxd/common/lxd/containers/p_web/command"),
        plain("/var/snap/lxd/common/lxd/containers", "p_web")
    );
    assert_eq!(monitor_name(b"lxc/0123456789abcdef/command"), Some(MonitorName::Hashed));
    for other in
        [&b"/tmp/x/command"[..], b"lxc/web/command", b"/var/lib/lxc/web/monitor", b"/command", b"command"]
    {
        assert_eq!(monitor_name(other), None);
    }
}

proptest! {
    #[test]
    fn any_reply_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
        let _ = parse_reply(&bytes);
    }

    #[test]
    fn any_socket_name_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = monitor_name(&bytes);
    }
}
