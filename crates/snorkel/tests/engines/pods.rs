//! Pods over the Container Runtime Interface, as a kubelet makes them.

use snorkel_testbed::{Image, Machine};

use crate::{assert_names_lead_back, eth0, good, json, on, peer_by_hand, target};

#[test]
fn pods_of_a_real_container_runtime_interface() {
    let machine = Machine::shared();
    let (cri, containerd) = (machine.cri(), machine.containerd());
    let pod = cri.run_pod("shop", "c-web-0", false);
    let app = cri.run(&pod, "app", Image::Busybox, &["httpd", "-f", "-h", "/www"]);
    let side = cri.run(&pod, "side", Image::Bare, &["/echo", "7"]);
    let done = cri.run(&pod, "done", Image::Busybox, &["sleep", "2147483647"]);
    cri.stop(&done);
    let on_host = cri.run_pod("kube-system", "c-proxy", true);
    cri.run(&on_host, "proxy", Image::Bare, &["/echo"]);
    let over = cri.run_pod("shop", "c-job", false);
    cri.run(&over, "job", Image::Bare, &["/echo"]);
    cri.stop_pod(&over);

    println!("{}", good(machine, &["ls", "-a"]));
    let snapshot = json(machine, &["ls", "--json", "-a"]);
    // The sandbox and its containers are targets of one namespace. containerd has them too; they are listed once.
    let (sandbox_pid, app_pid) = (containerd.pid("k8s.io", &pod.id), containerd.pid("k8s.io", &app));
    let sandbox = target(&snapshot, "pod:shop/c-web-0");
    assert_eq!((&sandbox["pid"], &sandbox["engine"]), (&sandbox_pid.into(), &"cri".into()));
    assert_eq!(target(&snapshot, "pod:shop/c-web-0/app")["pid"], app_pid);
    assert_eq!(target(&snapshot, "pod:shop/c-web-0/side")["pid"], containerd.pid("k8s.io", &side));
    assert_eq!(target(&snapshot, "pod:shop/c-web-0/app")["netns"], sandbox["netns"]);
    let named = snapshot["targets"].as_array().expect("targets").iter().filter(|t| t["id"] == *app).count();
    assert_eq!(named, 1);
    let stopped = target(&snapshot, "pod:shop/c-web-0/done");
    assert_eq!((&stopped["state"], &stopped["status"]), (&"stopped".into(), &"CONTAINER_EXITED".into()));
    assert_eq!(target(&snapshot, "pod:kube-system/c-proxy")["host"], true);
    assert_eq!(target(&snapshot, "pod:kube-system/c-proxy/proxy")["host"], true);

    // Both ends, both directions.
    let veth = peer_by_hand(machine, sandbox_pid);
    let eth0 = eth0(&snapshot, "pod:shop/c-web-0");
    assert_eq!(
        (&eth0["peer"]["name"], &eth0["peer"]["bridge"]["name"]),
        (&veth.clone().into(), &"cni0".into())
    );
    let address = eth0["addresses"][0]["address"].as_str().expect("CNI gave it one");
    for thing in [veth.as_str(), address, &sandbox_pid.to_string(), &app_pid.to_string()] {
        let answer = good(machine, &["which", thing]);
        assert!(answer.contains("pod:shop/c-web-0") && answer.contains(&veth), "{thing}: {answer}");
    }
    assert_eq!(machine.run("curl", ["-sS", &format!("http://{address}/")]), "hello from inside");

    // Every name leads in.
    assert_names_lead_back(machine, "c-");
    let netns = machine.run("readlink", [format!("/proc/{sandbox_pid}/ns/net")]) + "\n";
    for name in [
        "pod:shop/c-web-0",
        "pod:c-web-0",
        "c-web-0",
        "shop/c-web-0",
        "pod:shop/c-web-0/app",
        "c-web-0/side",
        &format!("cri:{}", &app[..12]),
        &format!("containerd:k8s.io/{}", &app[..12]),
        &pod.id,
    ] {
        assert_eq!(good(machine, &["exec", name, "--", "readlink", "/proc/self/ns/net"]), netns, "{name}");
    }
    for (name, status) in [
        ("pod:shop/c-web-0/done", "pod:shop/c-web-0/done is not running: CONTAINER_EXITED"),
        ("pod:shop/c-job", "pod:shop/c-job is not running: SANDBOX_NOTREADY"),
        ("pod:shop/c-job/job", "pod:shop/c-job/job is not running: CONTAINER_EXITED"),
    ] {
        let ran = on(machine, &["exec", name, "--", "true"]);
        assert_eq!(ran.status, 125, "{ran:?}");
        assert!(ran.stderr.contains(status), "{ran:?}");
    }
    let ran = on(machine, &["exec", "pod:shop/c-wbe-0", "--", "true"]);
    assert!(ran.stderr.contains("did you mean pod:shop/c-web-0"), "{ran:?}");
    cri.remove_pod(&over);
    assert!(!good(machine, &["ls", "-a"]).contains("c-job"));
}
