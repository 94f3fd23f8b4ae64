//! Who is told of events.

use std::{os::unix::fs::PermissionsExt, path::PathBuf};

use super::endpoint;
use crate::{
    config::{
        code,
        diagnostic::Findings,
        files::reason,
        model::{Config, net::FilePath},
        read::At,
    },
    site::{Endpoint, Receivers},
};

pub(super) fn compile(config: &Config, findings: &mut Findings) -> Receivers {
    let events = &config.events;
    Receivers {
        command: events.command.as_ref().and_then(|file| command(file, findings)),
        webhook: events.webhook.as_ref().and_then(|url| webhook(url, findings)),
    }
}

fn command(file: &At<FilePath>, findings: &mut Findings) -> Option<PathBuf> {
    let written = &file.written;
    let fault = match std::fs::metadata(&file.path) {
        Err(error) => format!("cannot find `{written}`: {}", reason(&error)),
        Ok(found) if !found.is_file() => format!("`{written}` is not a file"),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            format!("`{written}` is not executable")
        }
        Ok(_) => return Some(file.path.clone()),
    };
    findings.add(code::EVENT_COMMAND, &file.mark, fault).help(
        "name a program without arguments; a script begins with `#!/bin/sh` and needs `chmod +x`"
            .to_string(),
    );
    None
}

fn webhook(url: &At<String>, findings: &mut Findings) -> Option<Endpoint> {
    let parsed = endpoint::parse(url);
    match &parsed {
        Err(why) => {
            findings
                .add(code::WEBHOOK, &url.mark, format!("`webhook` {why}"))
                .help("`https://host/path`, where the certificate is for that host".to_string());
        }
        Ok(webhook) if !webhook.https && !endpoint::is_here(&webhook.host) => {
            findings
                .add(code::PLAIN_WEBHOOK, &url.mark, "events leave this machine unencrypted")
                .help("use https; http is fine on this machine".to_string());
        }
        Ok(_) => {}
    }
    parsed.ok()
}
