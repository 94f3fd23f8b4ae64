//! Where the running Frontgate is asked, and with which token: for every command that does.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::de::DeserializeOwned;

use crate::{
    admin::{Ask, Place, ProblemBody},
    config::{self, EXIT_CONFIG, render},
    site::{Admin, Token},
};

/// Where a running Frontgate is asked.
#[derive(Debug, clap::Args)]
pub(super) struct AdminArgs {
    /// Ask here: ADDRESS:PORT, NAME:PORT or unix:/PATH; given several times, each of them is asked
    /// [default: what the configuration says]
    #[arg(long = "admin", value_name = "ADDRESS", value_parser = Place::parse)]
    addresses: Vec<Place>,
    /// Configuration file that names admin address and token [default: $FRONTGATE_CONFIG, then
    /// /etc/frontgate/config.yaml]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// File with the token [default: what the configuration says, or the one that Frontgate made
    /// in its state directory]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Whom to ask, with which token.
pub(super) struct Side {
    pub(super) addresses: Vec<Place>,
    pub(super) token: Token,
}

/// Why a command ends before it asks anybody: the exit code, and what to say.
pub(super) type Failed = (i32, String);

impl AdminArgs {
    /// Whom to ask, with which token. The configuration is read only for what was not given.
    pub(super) fn side(&self) -> Result<Side, Failed> {
        let (addresses, token) = self.found()?;
        Ok(Side { addresses, token: token? })
    }

    /// Whom to ask, for commands that only read: the token matters only where other machines reach
    /// the admin side, so it may be missing.
    pub(super) fn reading(&self) -> Result<(Vec<Place>, Option<Token>), Failed> {
        let local = |addresses: &[Place]| addresses.iter().all(Place::is_local);
        if self.token_file.is_none() && !self.addresses.is_empty() && local(&self.addresses) {
            return Ok((self.addresses.clone(), None));
        }
        let (addresses, token) = self.found()?;
        let needed = self.token_file.is_some() || !local(&addresses);
        match token {
            Err(failed) if needed => Err(failed),
            token => Ok((addresses, token.ok())),
        }
    }

    /// What was given, or else what the configuration says.
    fn found(&self) -> Result<(Vec<Place>, Result<Token, Failed>), Failed> {
        let configured = match (&self.token_file, self.addresses.is_empty()) {
            (Some(_), false) => None,
            _ => Some(configured(self.config.as_deref())?),
        };
        let file = self.token_file.as_ref();
        let file = file.or_else(|| configured.as_ref().map(|admin| &admin.token_file));
        let token = token(file.map_or(Path::new(""), PathBuf::as_path));
        let addresses = match (self.addresses.is_empty(), configured) {
            (true, Some(admin)) => vec![admin.listen.into()],
            _ => self.addresses.clone(),
        };
        Ok((addresses, token))
    }

    /// The configuration file that was named, or the usual one.
    pub(super) fn config(&self) -> PathBuf {
        config::path(self.config.as_deref())
    }
}

/// What each of several admin sides answered, in their order.
pub(super) type Told<'a, T> = Vec<(&'a Place, Result<T, String>)>;

/// Asks all of them at the same time: one that does not answer holds no other up.
pub(super) fn ask_each<'a, T: DeserializeOwned + Send>(
    question: &Ask<'_>,
    places: &'a [Place],
    patience: Duration,
) -> Told<'a, T> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = places
            .iter()
            .map(|at| (at, scope.spawn(move || ask(question, at, patience))))
            .collect();
        let told = |(at, asked): (&'a Place, std::thread::ScopedJoinHandle<'_, _>)| {
            (at, asked.join().unwrap_or_else(|_| Err("it could not be asked".to_owned())))
        };
        asked.into_iter().map(told).collect()
    })
}

/// Asks, and reads the answer; or tells why there is none.
pub(super) fn ask<T: DeserializeOwned>(
    ask: &Ask<'_>,
    at: &Place,
    patience: Duration,
) -> Result<T, String> {
    let (status, answer) = ask.within(at, patience).map_err(|e| format!("{e:#}"))?;
    if status == 200 {
        return serde_json::from_str(&answer).map_err(|e| format!("an answer of no sense: {e}"));
    }
    let said = serde_json::from_str::<ProblemBody>(&answer).map_or(answer, |body| body.error);
    Err(match status {
        401 => format!("{said}: it belongs to another Frontgate, or was made anew since"),
        404 if matches!(said.trim(), "not found" | "there is no such thing in the API") => {
            "this Frontgate does not know the command".to_owned()
        }
        _ => said.trim().to_owned(),
    })
}

/// The admin side of the configuration. Errors elsewhere in the file do not matter: the running
/// Frontgate serves its last good site.
fn configured(path: Option<&Path>) -> Result<Admin, Failed> {
    let outcome = config::load(&config::path(path));
    outcome.admin.ok_or_else(|| {
        let text = render::text(&outcome.findings, false);
        let help = "name the configuration with --config, or --admin and --token-file";
        (EXIT_CONFIG, format!("{}\n{help}", text.trim_end()))
    })
}

fn token(path: &Path) -> Result<Token, Failed> {
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "permission denied; run this as root or as the user frontgate".to_owned()
            }
            io::ErrorKind::NotFound => "there is no such file; Frontgate makes it at start where \
                 it can write to its state_dir, --token-file names another one"
                .to_owned(),
            _ => error.to_string(),
        };
        (1, format!("cannot read the token {file}: {why}"))
    })?;
    Token::parse(&text).ok_or_else(|| (1, format!("there is no token in {file}")))
}

/// How long a command waits for an answer that takes no time.
pub(super) const SOON: Duration = Duration::from_secs(5);
