//! The admin side: who may change something, and where what survives a restart is kept.

use crate::{
    config::{
        code,
        compile::strings,
        diagnostic::Findings,
        files::{Files, reason},
        model::{Config, net::FilePath},
        read::At,
    },
    site::{Admin, Token},
};

pub(super) fn compile(config: &Config, files: &mut Files, findings: &mut Findings) -> Admin {
    let admin = &config.admin;
    let listen = &admin.listen;
    let closed = listen.is_local() || admin.token_file.is_some() || admin.client_ca.is_some();
    if !closed && !listen.fault && !admin.fault && !admin.broken {
        let message = format!("`{}` can be reached from other machines", listen.told());
        findings.add(code::ADMIN_OPEN, &listen.mark, message).help(
            "listen on 127.0.0.1 or unix:/path, or set `token_file`, which reading then needs too"
                .to_string(),
        );
    }
    state_dir(&config.state_dir, findings);
    Admin {
        listen: listen.value.clone(),
        health: config.health.listen.as_ref().map(|listen| listen.value.clone()),
        metrics: config.metrics.listen.as_ref().map(|listen| listen.value.clone()),
        hosts: strings(&admin.hosts),
        token: admin.token_file.as_ref().and_then(|file| token(file, files, findings)),
        token_file: match &admin.token_file {
            Some(file) => file.path.clone(),
            None => config.state_dir.path.join(Token::FILE),
        },
    }
}

/// The token of a file; `None` after a finding.
fn token(file: &At<FilePath>, files: &mut Files, findings: &mut Findings) -> Option<Token> {
    let written = &file.written;
    let text = match files.read(&file.path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            let message = format!("cannot read `{written}`: {}", reason(&error));
            findings
                .add(code::TOKEN_FILE, &file.mark, message)
                .help("make one: `openssl rand -hex 32`; or leave `token_file` out".to_string());
            return None;
        }
    };
    let token = Token::parse(&text);
    if token.is_none() {
        let message = format!("the first line of `{written}` is no token");
        findings.add(code::TOKEN_FILE, &file.mark, message).help(format!(
            "{} to {} visible ASCII characters: `openssl rand -hex 32`",
            Token::SHORTEST,
            Token::LONGEST
        ));
    }
    token
}

fn state_dir(dir: &At<FilePath>, findings: &mut Findings) {
    // Whether it can be written depends on who runs Frontgate, so that is told at start.
    if dir.path.exists() && !dir.path.is_dir() {
        let message = format!("`{}` is not a directory", dir.written);
        findings
            .add(code::NOTHING_KEPT, &dir.mark, message)
            .help("name a directory that Frontgate may make or write to".to_string());
    }
}
