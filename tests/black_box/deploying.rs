//! Pages and files about deploying: what they recommend holds.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(name)).unwrap()
}

/// A text of several lines as one.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A planned reboot ends containers with 0, which `on-failure` takes for being done.
#[test]
fn containers_come_back_after_a_reboot() {
    let page = file("docs/container.md");
    let command = page.split("docker run -d").nth(1).unwrap().split("```").next().unwrap();
    assert!(command.contains(" --restart unless-stopped "), "{command}");
    assert!(flat(&page).contains("exit code 78, and `unless-stopped` tries again"), "{page}");
    let compose: Value = serde_yaml::from_str(&file("deploy/compose.yaml")).unwrap();
    for (name, service) in compose["services"].as_object().unwrap() {
        // `<<` is not resolved here: the anchors are looked at by themselves.
        let policy = &service["restart"];
        let own = if name == "prepare" || service.get("<<").is_some() {
            Value::Null
        } else {
            "unless-stopped".into()
        };
        assert_eq!(*policy, own, "{name}");
    }
    for anchor in ["x-server", "x-gate"] {
        assert_eq!(compose[anchor]["restart"], "unless-stopped", "{anchor}");
    }
}

/// Nothing is mapped there, and ports below 1024 are the machine's to give; the test of the image
/// tries it.
#[test]
fn what_the_network_of_the_machine_takes_is_told_where_it_is_recommended() {
    let setting = "net.ipv4.ip_unprivileged_port_start=";
    for name in ["docs/container.md", "docs/high-availability.md"] {
        let page = file(name);
        assert!(page.contains("--network host"), "{name}");
        for told in page.split(setting).skip(1) {
            let digits: String = told.chars().take_while(char::is_ascii_digit).collect();
            // The lowest port of a listener there.
            assert_eq!(digits.parse::<u16>().unwrap(), 80, "{name}");
        }
        assert!(page.contains(setting), "{name}");
    }
    let page = flat(&file("docs/container.md"));
    assert!(
        page.contains("so `-p` is ignored: the listeners are at 443 and 80 themselves"),
        "{page}"
    );
}

/// The page's configuration is valid, its checks ask where Frontgate answers them, and orders come
/// neither from clients nor from everybody. What keepalived makes of it: tests/failover.
#[test]
fn two_machines_check_themselves_and_take_orders_apart_from_clients() {
    let page = file("docs/high-availability.md");
    let section = page.split("\n## Two machines, one address\n").nth(1).unwrap();
    let block = section.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let block: String = block.lines().map(|line| format!("{}\n", line.trim())).collect();
    let told: Value = serde_yaml::from_str(&block).unwrap();
    let health = told["health"]["listen"].as_str().unwrap();
    assert!(health.starts_with("127.0.0.1:"), "{health}");
    let keepalived = file("deploy/keepalived/keepalived.conf");
    assert!(keepalived.contains(&format!("\n$HEALTH={health}\n")), "{keepalived}");
    // Frontgate's Unix sockets are not for nobody.
    assert!(keepalived.contains(" script_user nobody "), "{keepalived}");
    let delay = told["shutdown"]["delay"].as_str().unwrap().strip_suffix('s').unwrap();
    assert!(delay.parse::<u64>().unwrap() >= 4, "{delay}");
    let admin = told["admin"]["listen"].as_str().unwrap();
    let port = admin.strip_prefix("${ADMIN_ADDRESS}:").unwrap();
    assert!(flat(section).contains(&format!(
        "Firewall: IP protocol 112 between the two machines; TCP port {port} from"
    )));

    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("admin.token"), "a-secret-of-both-of-them").unwrap();
    let text = block
        + "domains: [contoso.com]\nlisteners: [{ address: \"0.0.0.0:80\" }]\n\
           farms: { a: { servers: [fe01], bridge: http } }\n\
           publish: [{ host: meet.*, farm: a, schemes: [http] }]\n";
    let config = dir.path().join("frontgate.yaml");
    fs::write(&config, text).unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_frontgate"))
        .args(["check", "--config"])
        .arg(&config)
        .env("ADMIN_ADDRESS", "192.0.2.11")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&[check.stdout, check.stderr].concat()).into_owned();
    assert!(check.status.success() && told.contains("no findings"), "{told}");
}

/// What CI clones with is nobody else's business, and labels of an image are everybody's.
#[test]
fn labels_of_the_image_have_no_credentials() {
    let source = |url: &str| {
        let told = Command::new(Path::new(ROOT).join("scripts/source-url.sh")).arg(url).output();
        let told = told.unwrap();
        assert!(told.status.success(), "{url}: {}", String::from_utf8_lossy(&told.stderr));
        String::from_utf8(told.stdout).unwrap().trim_end().to_owned()
    };
    let plain = "https://git.contoso.com/it/frontgate.git";
    for url in [
        plain,
        "https://ghp_secret@git.contoso.com/it/frontgate.git",
        "https://ci:secret@git.contoso.com/it/frontgate.git",
        "https://ci:s@cret@git.contoso.com/it/frontgate.git",
        "https://git.contoso.com/it/frontgate.git?private_token=secret",
        "git@git.contoso.com:it/frontgate.git",
        "ssh://git@git.contoso.com:2222/it/frontgate.git",
    ] {
        assert_eq!(source(url), plain, "{url}");
    }
    for url in [
        "",
        "/srv/git/frontgate",
        "../a:b",
        "file:///srv/frontgate",
        "http://a:b@c/d",
        "ci:secret@git.contoso.com:it/frontgate",
        "https://ci:s/ecret@git.contoso.com/it",
    ] {
        assert_eq!(source(url), "", "{url}");
    }
    assert!(file("scripts/image.sh").contains("source=$(scripts/source-url.sh "));
}

/// Docker of Debian 12 builds without BuildKit unless somebody installed and asked for it.
#[test]
fn the_image_is_built_without_buildkit() {
    let text = file("Dockerfile");
    for line in text.lines() {
        assert!(!line.contains("--mount=") && !line.contains("<<"), "{line}");
        assert!(!line.starts_with("# syntax="), "{line}");
    }
    assert!(text.contains("RUN cargo build --locked --release"), "{text}");
}

/// `scripts/compose-test.sh` where nothing is installed but the programs that it needs to get to
/// Compose, and a `docker` that does what `docker` says.
fn compose_test(docker: &str) -> (Output, String) {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).unwrap();
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    for name in ["bash", "dirname", "mkdir", "grep", "mktemp", "rm", "tail", "touch"] {
        let real = ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(name));
        let real = real.iter().find(|real| real.exists()).unwrap();
        symlink(real, dir.path().join(name)).unwrap();
    }
    let calls = dir.path().join("calls");
    put("docker", &format!("#!/bin/bash\necho \"$*\" >>{}\n{docker}\n", calls.display()));
    let done = Command::new(Path::new(ROOT).join("scripts/compose-test.sh"))
        .env("PATH", dir.path())
        .env("IMAGE_DIR", dir.path().join("image"))
        .output()
        .unwrap();
    (done, fs::read_to_string(calls).unwrap())
}

/// It ends with `down --volumes`: of nobody's deployment.
#[test]
fn the_test_of_compose_touches_no_deployment() {
    let (done, calls) = compose_test("[ $1 != ps ] || echo 0123456789ab");
    assert_eq!(done.status.code(), Some(1), "{calls}");
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(errors.contains("There are containers of frontgate-test"), "{errors}");
    assert!(calls.contains("label=com.docker.compose.project=frontgate-test"), "{calls}");
    assert!(!calls.contains(" down") && !calls.contains(" up"), "{calls}");
    // And with nothing in the way every command is about its own project.
    let (done, calls) = compose_test("[ $1 != compose ] || [ $2 = version ]");
    assert!(!done.status.success());
    let compose: Vec<_> = calls.lines().filter(|call| call.starts_with("compose -")).collect();
    assert!(compose.iter().any(|call| call.ends_with(" down --volumes")), "{calls}");
    for call in compose {
        assert!(call.starts_with("compose -p frontgate-test -f deploy/compose.yaml "), "{call}");
    }
    assert!(file("deploy/compose.yaml").contains("\nname: frontgate\n"));
}

#[test]
fn the_test_of_compose_says_what_is_missing() {
    let (done, _) = compose_test("[ $1 != compose ]");
    assert_eq!(done.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(errors.contains("docker-compose-plugin"), "{errors}");
}
