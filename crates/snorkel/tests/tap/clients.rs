//! What is shown of real clients' conversations.

use snorkel_lab::{Kind, LabSpec, NodeSpec};

use crate::common::{lab, target};
use crate::kit::{Server, Tap, attempt, in_order, inside, needs};

fn pair() -> LabSpec {
    LabSpec::of(vec![NodeSpec::new("server", Kind::Idle), NodeSpec::new("client", Kind::Idle)])
}

#[test]
fn curl_over_both_protocols_and_the_loopback_with_the_client_s_own_address() {
    let lab = lab(LabSpec::default());
    let web = target(&lab, "web");
    let tap = Tap::start(&["-v", &format!("{web}:80")]);
    let four =
        inside(&lab, "client", &["curl", "-s4", "http://web/a?token=sesame", "-H", "Cookie: a=sesame"]);
    let six = inside(&lab, "client", &["curl", "-s6", "http://web/b"]);
    let own = inside(&lab, "web", &["curl", "-s", "http://127.0.0.1/c"]);
    // The application is told who the client is.
    assert_eq!(four, "hello from web, you are 198.19.0.4\n");
    assert_eq!(six, "hello from web, you are fd88::4\n");
    assert_eq!(own, "hello from web, you are 127.0.0.1\n");
    let ran = tap.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    let (client, server) = (format!("{}/client:", lab.name), format!("{}/web:80", lab.name));
    for path in ["/a?token=***", "/b", "/c"] {
        in_order(
            &ran.stdout,
            &[
                &format!("HTTP GET {path}"),
                "HTTP 200 OK",
                &format!("GET {path} → 200"),
                " out, ",
                " back, ",
                "closed",
            ],
        );
    }
    in_order(&ran.stdout, &[&client, " → ", &server, "opened", "→ Cookie: a=***", &client, " ← ", &server]);
    assert!(!ran.stdout.contains("sesame"), "{}", ran.stdout);
    assert!(ran.stderr.contains("3 connections"), "{}", ran.stderr);
}

#[test]
fn without_v_there_is_a_line_a_connection_and_with_json_an_object_an_event() {
    let lab = lab(LabSpec::default());
    let web = format!("{}:80", target(&lab, "web"));
    let tap = Tap::start(&[&web]);
    inside(&lab, "client", &["curl", "-s4", "http://web/a"]);
    let ran = tap.stop();
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    assert!(ran.stdout.contains("first byte after"), "{}", ran.stdout);
    let tap = Tap::start(&["--json", &web]);
    inside(&lab, "client", &["curl", "-s4", "http://web/a"]);
    let ran = tap.stop();
    let objects: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<&str> = objects.iter().map(|object| object["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["opened", "said", "said", "said", "ended"]);
    assert_eq!(objects[1]["kind"], "request");
    assert_eq!(objects[1]["fields"]["target"], "/a");
    assert_eq!(objects[1]["client"]["name"], format!("{}/client", lab.name));
    assert_eq!(objects[2]["fields"]["status"], 200);
    assert_eq!(
        (&objects[4]["how"], &objects[4]["client"]["address"]),
        (&"closed".into(), &"198.19.0.4".into())
    );
    let sent = objects[4]["bytes"].as_array().unwrap();
    assert!(sent.iter().all(|bytes| bytes.as_u64().unwrap() > 50), "{sent:?}");
}

#[test]
fn several_applications_on_one_address_each() {
    let lab = lab(pair());
    needs("socat");
    let server = target(&lab, "server");
    let echo = |port: u16, options: &str| {
        let listen = format!("{options}:{port},fork,reuseaddr");
        Server::start(&lab, "server", port, &["socat", &listen, "SYSTEM:cat"])
    };
    let bound = "TCP4-LISTEN:7002,bind=198.19.0.2,fork,reuseaddr";
    let loopback = "TCP4-LISTEN:7003,bind=127.0.0.1,fork,reuseaddr";
    let _servers = [
        echo(7001, "TCP4-LISTEN"),
        Server::start(&lab, "server", 7002, &["socat", bound, "SYSTEM:cat"]),
        Server::start(&lab, "server", 7003, &["socat", loopback, "SYSTEM:cat"]),
        echo(7004, "TCP6-LISTEN"),
    ];
    let ports: Vec<String> = (7001..=7004).map(|port| format!("{server}:{port}")).collect();
    let words: Vec<&str> = ports.iter().map(String::as_str).collect();
    let tap = Tap::start(&words);
    let ask = |node: &str, address: &str| {
        let command = format!("echo hello | socat -t5 - {address}");
        attempt(&lab, node, &["sh", "-c", &command])
    };
    for (node, address, works) in [
        ("client", "TCP4:198.19.0.2:7001", true),
        ("server", "TCP4:127.0.0.1:7001", true),
        ("client", "TCP4:198.19.0.2:7002", true),
        ("server", "TCP4:127.0.0.1:7002", false),
        ("server", "TCP4:127.0.0.1:7003", true),
        ("client", "TCP4:198.19.0.2:7003", false),
        ("client", "TCP6:[fd88::2]:7004", true),
        ("client", "TCP4:198.19.0.2:7004", true),
        ("server", "TCP6:[::1]:7004", true),
    ] {
        let ran = ask(node, address);
        if works {
            assert_eq!((ran.stdout.as_str(), ran.status), ("hello\n", 0), "{node} {address} {ran:?}");
        } else {
            assert!(ran.stderr.contains("Connection refused"), "{node} {address} {ran:?}");
        }
    }
    let ran = tap.stop();
    assert_eq!(
        ran.stdout.lines().filter(|line| line.contains("6 B out, 6 B back")).count(),
        7,
        "{}",
        ran.stdout
    );
}

#[test]
fn a_redis_client_with_its_password_masked() {
    needs("redis-server");
    let lab = lab(pair());
    let options =
        ["--port", "6379", "--bind", "0.0.0.0", "--requirepass", "sesame", "--save", "", "--dir", "/tmp"];
    let _redis = Server::start(&lab, "server", 6379, &[&["redis-server"], &options[..]].concat());
    let tap = Tap::start(&["-v", &format!("{}:6379", target(&lab, "server"))]);
    let cli = ["redis-cli", "-h", "198.19.0.2", "--no-auth-warning", "-a", "sesame"];
    assert_eq!(inside(&lab, "client", &[&cli[..], &["SET", "greeting", "hello you"]].concat()), "OK\n");
    assert_eq!(inside(&lab, "client", &[&cli[..], &["-3", "HGETALL", "nothing"]].concat()), "\n");
    let ran = tap.stop();
    in_order(
        &ran.stdout,
        &["→", "Redis AUTH ***", "←", "Redis OK", "Redis SET greeting \"hello you\"", "Redis OK"],
    );
    in_order(&ran.stdout, &["Redis HELLO 3", "Redis HGETALL nothing"]);
    assert!(!ran.stdout.contains("sesame"), "{}", ran.stdout);
}

#[test]
fn a_matching_command_is_answered_and_others_go_on() {
    needs("redis-server");
    let lab = lab(pair());
    let options =
        ["--port", "6379", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir", "/tmp"];
    let _redis = Server::start(&lab, "server", 6379, &[&["redis-server"], &options[..]].concat());
    let at = format!("{}:6379", target(&lab, "server"));
    let tap = Tap::start(&[&at, "--match", "SET *", "--respond", "503"]);
    let cli = ["redis-cli", "-h", "198.19.0.2"];
    let set = attempt(&lab, "client", &[&cli[..], &["SET", "a", "b"]].concat());
    assert!(set.stdout.contains("ERR 503 by snorkel tap"), "{set:?}");
    assert_eq!(inside(&lab, "client", &[&cli[..], &["GET", "a"]].concat()), "\n");
    let ran = tap.stop();
    assert!(ran.stdout.contains("cut: answered, matching 'SET *'"), "{ran:?}");
}

#[test]
fn psql_with_queries_rows_and_errors_and_no_password() {
    needs("psql");
    let lab = lab(pair());
    let home = tempfile::tempdir().unwrap();
    let script = r#"
        set -e
        cd "$1"; chmod 755 .; mkdir data run; echo sesame > password; chown -R postgres data run password
        bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
        exec setpriv --reuid postgres --regid postgres --clear-groups sh -c "
            $bin/initdb -D data -U me --pwfile password --auth scram-sha-256 > run/log
            # The client is let in by its own address, which it would not be by the tap's.
            echo 'host all all 198.19.0.3/32 scram-sha-256' > data/pg_hba.conf
            exec $bin/postgres -D data -h '*' -k '$1/run' -c fsync=off"
    "#;
    let path = home.path().to_str().unwrap();
    let _postgres = Server::start(&lab, "server", 5432, &["sh", "-c", script, "sh", path]);
    let tap = Tap::start(&["-v", &format!("{}:5432", target(&lab, "server"))]);
    let psql = |query: &str| {
        let address = "host=198.19.0.2 user=me password=sesame dbname=postgres sslmode=disable";
        attempt(&lab, "client", &["psql", "-At", "-c", query, address])
    };
    // It may still be starting, and says so.
    let begun = std::time::Instant::now();
    while psql("SELECT 1").status != 0 {
        assert!(begun.elapsed() < crate::common::LONGEST, "{:?}", psql("SELECT 1"));
    }
    assert_eq!(psql("SELECT n FROM generate_series(1, 3) n").stdout, "1\n2\n3\n");
    assert_eq!(psql("SELEC").status, 1);
    let ran = tap.stop();
    in_order(
        &ran.stdout,
        &[
            "PostgreSQL starts as me on postgres",
            "asks for a password, SCRAM-SHA-256",
            "authenticates with ***",
            "authenticated",
            "PostgreSQL SELECT n FROM generate_series(1, 3) n",
            "PostgreSQL SELECT 3",
            "3 rows",
            "PostgreSQL SELEC",
            "ERROR 42601: syntax error",
        ],
    );
    assert!(!ran.stdout.contains("sesame"), "{}", ran.stdout);
}

#[test]
fn curl_with_prior_knowledge_of_http2() {
    needs("nghttpd");
    let lab = lab(pair());
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("page"), "hello by HTTP/2\n").unwrap();
    let path = home.path().to_str().unwrap();
    let _server = Server::start(&lab, "server", 8080, &["nghttpd", "--no-tls", "-d", path, "8080"]);
    let tap = Tap::start(&["-v", &format!("{}:8080", target(&lab, "server"))]);
    let curl = ["curl", "-s", "--http2-prior-knowledge", "-H", "Authorization: Bearer sesame"];
    let page = inside(&lab, "client", &[&curl[..], &["http://198.19.0.2:8080/page"]].concat());
    assert_eq!(page, "hello by HTTP/2\n");
    let ran = tap.stop();
    in_order(
        &ran.stdout,
        &[
            "HTTP/2 (1) GET /page",
            "authorization: Bearer ***",
            "HTTP/2 (1) 200",
            "GET /page → 200",
            "16 B received",
        ],
    );
    assert!(!ran.stdout.contains("sesame"), "{}", ran.stdout);
}

#[test]
fn dig_over_tcp() {
    needs("dig");
    let lab = lab(pair());
    let tap = Tap::start(&["-v", &format!("{}:53", target(&lab, "switch"))]);
    let answer = inside(&lab, "client", &["dig", "+tcp", "+short", "@198.19.0.1", "server.lab"]);
    assert_eq!(answer, "198.19.0.2\n");
    let ran = tap.stop();
    in_order(&ran.stdout, &["→", "A server.lab", "←", "A server.lab: A 198.19.0.2"]);
}

#[test]
fn tls_with_its_names_and_certificate_passed_through() {
    needs("openssl");
    let lab = lab(pair());
    let home = tempfile::tempdir().unwrap();
    let [key, certificate] = ["key", "certificate"].map(|name| home.path().join(name).display().to_string());
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=shop.example", "-days", "2"])
        .args(["-keyout", &key, "-out", &certificate])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let serve =
        ["openssl", "s_server", "-accept", "4433", "-www", "-tls1_2", "-key", &key, "-cert", &certificate];
    let _server = Server::start(&lab, "server", 4433, &serve);
    let tap = Tap::start(&["-v", &format!("{}:4433", target(&lab, "server"))]);
    let resolve = ["--resolve", "shop.example:4433:198.19.0.2", "--cacert", &certificate];
    let page =
        inside(&lab, "client", &[&["curl", "-s"], &resolve[..], &["https://shop.example:4433/"]].concat());
    assert!(page.contains("s_server"), "{page}");
    let ran = tap.stop();
    in_order(
        &ran.stdout,
        &[
            "TLS client hello for shop.example",
            "TLS server hello",
            "version 1.2",
            "certificate of CN=shop.example",
        ],
    );
}

#[test]
fn busybox_with_no_tool_but_itself() {
    needs("busybox");
    let lab = lab(LabSpec::default());
    let tap = Tap::start(&["-v", &format!("{}:80", target(&lab, "web"))]);
    let page = inside(&lab, "client", &["busybox", "wget", "-qO-", "http://198.19.0.2/from/busybox"]);
    assert!(page.ends_with("you are 198.19.0.4\n"), "{page}");
    in_order(&tap.stop().stdout, &["HTTP GET /from/busybox", "→ 200"]);
}
