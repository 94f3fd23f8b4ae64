//! From the YAML file to the site, with every mistake told at once.
//!
//! `load` (files → tree) → `model` (tree → what is written) → `preset` → `compile` (→ site) →
//! `lint`. Nothing in here opens a socket.

pub mod certificate;
pub mod code;
pub mod compile;
pub mod diagnostic;
pub mod environment;
pub mod files;
#[cfg(test)]
pub(crate) mod golden;
pub mod lint;
mod lint_cookies;
mod lint_proxied;
mod lint_rules;
pub mod load;
pub mod model;
pub mod node;
pub mod preset;
mod raw;
pub mod read;
pub mod record;
pub mod render;
pub mod source;
pub mod template;
#[cfg(test)]
mod tests;

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::{
        compile::same_as,
        diagnostic::Findings,
        environment::{Environment, Lookup},
        files::Files,
        model::Config,
        read::Read,
    },
    site::{Admin, Site},
};

/// Exit code for an invalid configuration (`EX_CONFIG`); systemd does not restart after it.
pub const EXIT_CONFIG: i32 = 78;

/// Where the configuration is when nothing says otherwise.
pub const DEFAULT_PATH: &str = "/etc/frontgate/config.yaml";

/// What came of a configuration.
pub struct Outcome {
    /// The site; `None` if any finding is an error.
    pub site: Option<Arc<Site>>,
    /// The admin side as far as it could be understood, also when there are errors elsewhere:
    /// the Frontgate that serves the last good site is asked there.
    pub admin: Option<Admin>,
    /// All findings, in the order of files and lines.
    pub findings: Findings,
    /// The effective configuration as YAML: presets expanded, defaults filled in, secrets by
    /// their names. `None` if it could not be understood at all.
    pub effective: Option<String>,
    /// Every file that was read or is missing: a change of one may change the outcome.
    pub files: Vec<PathBuf>,
    /// Directories in which a new file may change the outcome.
    pub directories: Vec<PathBuf>,
}

/// The configuration file: what was given, else `FRONTGATE_CONFIG`, else [`DEFAULT_PATH`].
pub fn path(given: Option<&Path>) -> PathBuf {
    let from_environment = || env::var_os("FRONTGATE_CONFIG").filter(|path| !path.is_empty());
    match given {
        Some(path) => path.to_path_buf(),
        None => from_environment().map_or_else(|| PathBuf::from(DEFAULT_PATH), PathBuf::from),
    }
}

/// Loads, compiles and lints a configuration; variables come from the process environment.
pub fn load(path: &Path) -> Outcome {
    load_with(path, &|name| env::var(name).ok())
}

/// The same with other variables.
pub fn load_with(path: &Path, lookup: Lookup<'_>) -> Outcome {
    let mut files = Files::default();
    let mut environment = Environment::new(lookup);
    let mut findings = Findings::default();
    let mut effective = None;
    let mut site = None;
    let mut admin = None;
    let root = load::load(path, &mut files, &mut environment, &mut findings);
    if let Some(mut config) = root.and_then(|root| Config::read(&root, &mut findings)) {
        preset::expand(&mut config);
        // What is included is part of what is shown; `same_as` is shown as it is written.
        config.include = None;
        effective = serde_yaml::to_string(&config.show()).ok();
        same_as::expand(&mut config, &mut findings);
        let mut compiled = compile::compile(&config, &mut files, &mut findings);
        lint::lint(&config, &compiled, &mut findings);
        compiled.site.fingerprint = files.fingerprint(&environment.taken);
        compiled.site.files = files.paths();
        compiled.site.directories = files.directories();
        admin = Some(compiled.site.admin.clone());
        site = Some(Arc::new(compiled.site));
    }
    findings.sort();
    Outcome {
        site: site.filter(|_| findings.errors() == 0),
        admin,
        findings,
        effective,
        files: files.paths(),
        directories: files.directories(),
    }
}
