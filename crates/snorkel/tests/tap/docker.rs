//! Docker's containers, with ports that it publishes.

use snorkel_testbed::{Image, Machine};

use crate::common::SNORKEL;
use crate::kit::Tap;

fn tap(machine: &Machine, words: &[&str]) -> Tap {
    let mut command = machine.command(SNORKEL);
    command.arg("tap").args(words);
    Tap::run(command)
}

#[test]
fn a_published_port_is_tapped_where_it_leads_to_and_the_tap_ends_with_its_container() {
    let machine = Machine::shared();
    let docker = machine.docker();
    let serve = &["httpd", "-f", "-p", "80", "-h", "/www"];
    docker.run("t-web", &["-p", "8080:80"], Image::Busybox, serve);
    docker.run("t-cli", &[], Image::Tools, &[]);
    let gateway = docker.inspect("t-web", "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}");
    let address = docker.inspect("t-web", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    let mut running = tap(machine, &["t-web:80"]);
    // The second is told who is first, also by a name that is longer.
    let second = snorkel_testbed::finish(machine.command(SNORKEL).args(["tap", "docker:t-web:80"]));
    assert_eq!(second.status, Some(1));
    assert!(
        second.stderr.contains(&format!("80/tcp is tapped already, by process {}", running.pid())),
        "{second:?}"
    );
    // From another container: directly, and by the published port. From the host: by Docker's rules or its proxy.
    for (from, to, port) in [
        (Some("t-cli"), address.as_str(), "80"),
        (Some("t-cli"), gateway.as_str(), "8080"),
        (None, gateway.as_str(), "8080"),
        (None, "127.0.0.1", "8080"),
    ] {
        let page = format!("http://{to}:{port}/index.html");
        let answer = match from {
            Some(container) => docker.exec(container, &["wget", "-qO-", &page]),
            None => machine.run("busybox", ["wget", "-qO-", &page]),
        };
        assert!(answer.contains("hello from inside"), "{from:?} {to} {port}: {answer}");
        let line = running.wait(0, "closed");
        assert!(line.contains("→ t-web:80"), "{line}");
        if (from, port) == (Some("t-cli"), "80") {
            assert!(line.contains("t-cli:"), "{line}");
        }
    }
    docker.cli(&["kill", "t-web"]);
    running.wait(1, "t-web ended");
    let ran = running.finish();
    assert_eq!((ran.status, ran.stdout.lines().count()), (0, 4), "{ran:?}");
}
