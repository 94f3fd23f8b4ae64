//! Pages and files about deploying: what they recommend holds.

use std::{fs, path::Path};

use serde_json::Value;

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
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
