//! The container image as people run it: `make image-test` builds it, says where (`ENGINE`, a
//! program like Docker; `IMAGE`, the name) and runs these tests.

#![allow(unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod container;
#[path = "../black_box/support/mod.rs"]
mod support;

use std::{net::TcpStream, time::Duration};

use self::{
    container::{Container, Mounted, engine, image},
    support::{
        SOON,
        backend::{Backend, always, held},
        client::Client,
        until,
    },
};

/// The bound of the container, the same for every test: a name that answers, over plain http, so
/// that what is tested is the image.
fn config(body: &str, port: u16) -> String {
    format!(
        "admin: {{ listen: 127.0.0.1:0 }}
shutdown: {{ drain: 30s }}
listeners: [{{ name: plain, address: \"127.0.0.1:0\" }}]
farms:
  a: {{ servers: [{{ address: 127.0.0.1, ports: {{ http: {port} }} }}], bridge: http }}
publish:
  - {{ host: meet.contoso.com, farm: a, schemes: [http] }}
  - {{ host: lync.contoso.com, respond: {{ status: 404, file: page.txt }}, schemes: [http] }}
# {body}
"
    )
}

fn ask(container: &Container, host: &str) -> support::client::Answer {
    Client::plain(container.address("plain")).get(host, "/")
}

#[test]
fn it_is_small_and_says_what_it_is() {
    let told = engine(&["image", "inspect", &image()]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let told = &told[0];
    let size = told["Size"].as_u64().unwrap();
    println!("size: {:.1} MB", size as f64 / 1e6);
    assert!(size < 40_000_000, "{size} bytes");
    assert_eq!(told["Config"]["User"], "65532:65532");
    assert_eq!(told["Config"]["StopSignal"], "SIGTERM");
    let labels = &told["Config"]["Labels"];
    for label in
        ["title", "description", "source", "version", "revision", "licenses", "documentation"]
    {
        let key = format!("org.opencontainers.image.{label}");
        assert!(labels[&key].is_string(), "{key} is missing in {labels}");
    }
    assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    let check = told["Config"]["Healthcheck"].as_object().or(told["Healthcheck"].as_object());
    assert!(check.unwrap()["Test"].to_string().contains("healthcheck"), "{check:?}");
    let version = engine(&["run", "--rm", &image(), "version"]);
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}

#[test]
fn there_is_no_shell_and_no_other_program() {
    for program in ["/bin/sh", "/bin/bash", "/usr/bin/env", "/usr/bin/apt-get"] {
        let run = container::command()
            .args(["run", "--rm", "--entrypoint", program, &image(), "true"])
            .output()
            .unwrap();
        assert!(!run.status.success(), "{program} runs");
    }
    let made = engine(&["create", &image()]);
    let files = container::command().args(["export", made.trim()]).output().unwrap().stdout;
    engine(&["rm", made.trim()]);
    let listed = container::list(&files);
    assert!(listed.contains(&"usr/local/bin/frontgate".to_owned()), "{listed:?}");
    let programs: Vec<_> = listed.iter().filter(|name| name.contains("bin/")).collect();
    let others =
        programs.iter().filter(|name| !name.ends_with('/') && !name.ends_with("/frontgate"));
    assert_eq!(others.count(), 0, "{programs:?}");
}

/// As Kubernetes' restricted level wants it, with a configuration whose files change as those of
/// a ConfigMap do.
#[test]
fn it_runs_without_any_right_and_reloads_when_links_are_swapped() {
    let one = Backend::plain(always("one"));
    let two = Backend::plain(always("two"));
    let mounted = Mounted::new(&config("1", one.port()));
    let container = Container::start(&mounted, &[]);
    let status = container.status_of_process();
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of("Uid:"), ["65532"; 4]);
    assert_eq!(of("Gid:"), ["65532"; 4]);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(of(set), ["0000000000000000"], "{set}");
    }
    assert_eq!(of("NoNewPrivs:"), ["1"]);
    assert_eq!(ask(&container, "meet.contoso.com").text(), "one");

    mounted.swap(&config("2", two.port()));
    until("the other server", SOON, || {
        (ask(&container, "meet.contoso.com").text() == "two").then_some(())
    });
    // And once more: the watched directory is another one now.
    mounted.swap(&config("3", one.port()));
    until("the first server", SOON, || {
        (ask(&container, "meet.contoso.com").text() == "one").then_some(())
    });
    mounted.swap("farms: [");
    container.log_line("reload refused");
    assert_eq!(ask(&container, "meet.contoso.com").text(), "one");
    assert!(container.logged().contains("\"status\":200"), "no access log on standard output");
    assert_eq!(container.stop(), 0);
}

/// docs/container.md about `--network host`: ports below 1024 are the machine's to give.
#[test]
fn low_ports_of_the_machine_need_its_permission() {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let allowed = first.trim().parse::<u16>().unwrap() <= 443;
    let backend = Backend::plain(always("one"));
    let text = config("1", backend.port());
    let low = text.replace(
        "name: plain, address: \"127.0.0.1:0\"",
        "name: plain, address: \"127.0.0.97:443\"",
    );
    assert_ne!(low, text);
    let mounted = Mounted::new(&low);
    println!("ports from {} on are everybody's here", first.trim());
    let works = |container: &Container| {
        assert_eq!(container.address("plain").to_string(), "127.0.0.97:443");
        assert_eq!(ask(container, "meet.contoso.com").text(), "one");
    };
    if allowed {
        return works(&Container::start(&mounted, &[]));
    }
    let volume = mounted.volume();
    let bare = ["--network", "host", "--cap-drop=all", "-v", &volume];
    let refused = Container::run(&[&bare[..], &[&image()]].concat());
    refused.log_line("cannot bind 127.0.0.97:443: Permission denied");
    assert_eq!(refused.stop(), 1);
    // What Docker adds reaches root only.
    if std::env::var("ENGINE").unwrap().ends_with("podman") {
        works(&Container::start(&mounted, &["--cap-add", "NET_BIND_SERVICE"]));
    }
}

#[test]
fn a_bind_mounted_file_that_is_edited_in_its_place_is_read_again() {
    let one = Backend::plain(always("one"));
    let two = Backend::plain(always("two"));
    let mounted = Mounted::plain(&config("1", one.port()));
    let container = Container::start(&mounted, &[]);
    assert_eq!(ask(&container, "meet.contoso.com").text(), "one");
    mounted.edit(&config("2", two.port()));
    until("the other server", SOON, || {
        (ask(&container, "meet.contoso.com").text() == "two").then_some(())
    });
}

#[test]
fn its_healthcheck_tells_whether_it_is_ready() {
    let backend = Backend::plain(always("one"));
    let text = config("1", backend.port()).replace("127.0.0.1:0 }", "127.0.0.1:29180 }");
    let mounted = Mounted::new(&text);
    let container = Container::start(&mounted, &[]);
    assert_eq!(container.healthcheck(), 0);
    // What the image says is what the engine runs.
    until("healthy", Duration::from_secs(40), || {
        container.check_health();
        (container.health() == "healthy").then_some(())
    });
}

#[test]
fn an_invalid_configuration_exits_78() {
    let mounted = Mounted::new("farms: [");
    let run = container::command()
        .args(["run", "--rm", "-v", &mounted.volume(), &image()])
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(78), "{}", String::from_utf8_lossy(&run.stderr));
}

/// Requests that are under way are answered; nobody is told of an error.
#[test]
fn sigterm_under_load_loses_nothing() {
    let (go, backend) = held("done");
    let mounted = Mounted::new(&config("1", backend.port()));
    let container = Container::start(&mounted, &[]);
    let address = container.address("plain");
    let mut running: Vec<_> = (0..20).map(|_| Client::plain(address)).collect();
    for client in &mut running {
        client.send("GET /x HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n");
    }
    until("all under way", SOON, || (backend.connections() == 20).then_some(()));
    let stopping = container.stop_in_background();
    until("no new ones", SOON, || TcpStream::connect(address).is_err().then_some(()));
    for _ in 0..20 {
        go.send(()).unwrap();
    }
    for client in &mut running {
        assert_eq!(client.answer(false).text(), "done");
    }
    assert_eq!(stopping.join().unwrap(), 0);
}

#[test]
fn the_lab_works_with_no_other_argument() {
    let container = Container::run(&["--network", "host", "--read-only", &image(), "lab"]);
    let line = container.log_line("Frontgate ");
    assert!(line.contains("0.0.0.0:8443"), "{line}");
    until("a meeting", SOON, || {
        let curl = std::process::Command::new("curl")
            .args(["--silent", "--insecure", "--max-time", "20", "--noproxy", "*"])
            .args(["--resolve", "meet.contoso.com:8443:127.0.0.1"])
            .args(["--write-out", "%{http_code}", "--output", "/dev/null"])
            .arg("https://meet.contoso.com:8443/meet/alice/X7K2")
            .output()
            .unwrap();
        (String::from_utf8_lossy(&curl.stdout) == "200").then_some(())
    });
    assert_eq!(container.healthcheck(), 0);
    assert_eq!(container.stop(), 0);
}
