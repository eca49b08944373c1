//! Many connections, and more than there are descriptors for.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use snorkel_lab::{Kind, LabSpec, NodeSpec};

use crate::common::{SNORKEL, lab, target};
use crate::kit::{Tap, ask, connect, netns};

#[test]
fn without_descriptors_new_connections_go_past_the_tap_and_open_ones_live_on() {
    let lab = lab(LabSpec::default());
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 96 && exec \"$@\"", "sh", SNORKEL, "tap"]);
    command.arg(format!("{}:80", target(&lab, "web"))).env_remove("SUDO_UID");
    let mut tap = Tap::run(command);
    // One after another: of a crowd that comes at once, more can be on their way than there is to spare.
    let mut all: Vec<TcpStream> = Vec::new();
    for _ in 0..60 {
        let mut stream = connect(&lab, "client", "198.19.0.2:80");
        assert!(ask(&mut stream).contains("hello from web"));
        all.push(stream);
    }
    let told = tap.wait(1, "no more file descriptors");
    assert!(told.contains("new ones go to the application directly") && told.contains("live on"), "{told}");
    // Also those that were there before, once more.
    for stream in &mut all {
        assert!(ask(stream).contains("hello from web"));
    }
    // Once there is room again, they are led again: more ends are told than connections fitted at once.
    let count = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "with");
        words.nth(1).unwrap().parse::<usize>().unwrap()
    };
    let open = count(&told);
    assert!((1..48).contains(&open), "{told}");
    drop(all);
    for _ in 0..open {
        tap.wait(0, "closed");
    }
    let mut later = connect(&lab, "client", "198.19.0.2:80");
    ask(&mut later);
    drop(later);
    // There may have been room for some of those before.
    loop {
        if tap.wait(0, "out, ").contains("18 B out") {
            break;
        }
    }
    let ran = tap.stop();
    assert_eq!(ran.stderr.matches("no more file descriptors").count(), 1, "{ran:?}");
}

#[test]
fn ten_thousand_connections_at_once_or_as_many_as_there_are_descriptors() {
    let lab =
        lab(LabSpec::of(vec![NodeSpec::new("server", Kind::Idle), NodeSpec::new("client", Kind::Idle)]));
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    // Both ends of each are this process's, and both sides of each the tap's.
    let count = ((usize::try_from(limit).unwrap_or(usize::MAX) - 256) / 2).min(10_000);
    assert!(count > 200, "a limit of {limit} descriptors is too low for this");
    let listener = netns(&lab, "server").run(|| TcpListener::bind("0.0.0.0:7000").unwrap()).unwrap();
    let tap = Tap::start(&[&format!("{}:7000", target(&lab, "server"))]);
    let mut ends: Vec<[TcpStream; 2]> = netns(&lab, "client")
        .run(|| {
            let pair = |_| {
                let client = TcpStream::connect("198.19.0.2:7000").unwrap();
                [client, listener.accept().unwrap().0]
            };
            (0..count).map(pair).collect()
        })
        .unwrap();
    // All are open at once. Each carries its own number, both ways.
    for (number, [client, server]) in ends.iter_mut().enumerate() {
        client.write_all(&number.to_be_bytes()).unwrap();
        server.write_all(&(!number).to_be_bytes()).unwrap();
    }
    let mut seen = vec![false; count];
    for (number, [client, server]) in ends.iter_mut().enumerate() {
        let read = |stream: &mut TcpStream| {
            let mut bytes = [0; 8];
            stream.read_exact(&mut bytes).unwrap();
            usize::from_be_bytes(bytes)
        };
        let of_client = read(server);
        assert!(!std::mem::replace(&mut seen[of_client], true));
        // Connections reach the application in the order in which they were made.
        assert_eq!((of_client, read(client)), (number, !number));
    }
    drop(ends);
    let ran = tap.stop();
    assert_eq!(ran.stdout.matches("8 B out, 8 B back").count(), count, "{}", ran.stderr);
}
