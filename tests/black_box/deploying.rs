//! Pages and files about deploying: what they recommend holds.

use std::{fs, path::Path, process::Command};

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
