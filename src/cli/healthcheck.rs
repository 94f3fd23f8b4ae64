//! `frontgate healthcheck`: is the Frontgate on this machine ready?

use std::{
    io::{self, Write},
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    admin::{self, Place},
    config,
    site::AdminAddress,
};

/// Pause between two questions of `--for`.
const PAUSE: Duration = Duration::from_millis(100);

/// Ask a running Frontgate whether it is ready.
#[derive(Debug, clap::Args)]
pub(super) struct HealthcheckArgs {
    /// Configuration file that names the admin address
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask here instead: ADDRESS:PORT, NAME:PORT or unix:/PATH
    #[arg(long, value_name = "ADDRESS", value_parser = Place::parse)]
    admin: Option<Place>,
    /// Ask only whether the process lives, not whether it is ready for traffic
    #[arg(long)]
    live: bool,
    /// Go on asking for so long, such as 900ms, and end when it failed twice in a row: for callers
    /// such as keepalived that cannot ask more often than once a second
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    period: Option<Duration>,
}

/// Exit code 0: ready. 1: not ready, or nobody answers.
pub(super) fn run(args: &HealthcheckArgs) -> i32 {
    let place = args.admin.clone().unwrap_or_else(|| configured(args.config.clone()));
    let page = if args.live { "/livez" } else { "/readyz" };
    let told = match args.period {
        None => ask(&place, page),
        Some(period) => watch(period, || ask(&place, page)),
    };
    // A reader that went away wanted no more.
    match told {
        Ok(text) => {
            let _ = write!(io::stdout(), "{text}");
            0
        }
        Err(text) => {
            let _ = writeln!(io::stderr(), "frontgate healthcheck: {}", text.trim_end());
            1
        }
    }
}

fn ask(place: &Place, page: &str) -> Result<String, String> {
    match admin::get(place, page) {
        Ok((200, body)) => Ok(body),
        Ok((status, body)) => Err(format!("{status} {body}")),
        Err(e) => Err(format!("{e:#}")),
    }
}

/// Asks until `period` is over or two answers in a row were no good; then the last one.
fn watch(period: Duration, ask: impl Fn() -> Result<String, String>) -> Result<String, String> {
    let end = Instant::now() + period;
    let mut before = ask();
    loop {
        // A first failure is asked about again, also when the time is over.
        if before.is_ok() && Instant::now() + PAUSE >= end {
            return before;
        }
        sleep(PAUSE);
        let now = ask();
        if before.is_err() && now.is_err() {
            return now;
        }
        before = now;
    }
}

/// The address the configuration names. Errors elsewhere in the file do not matter: the running
/// Frontgate serves its last good site.
fn configured(path: Option<PathBuf>) -> Place {
    match config::load(&config::path(path.as_deref())).admin {
        Some(admin) => admin.health.unwrap_or(admin.listen).into(),
        None => AdminAddress::Tcp(([127, 0, 0, 1], 9180).into()).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// What the watch makes of answers that are good (`true`) or not, and how many it took.
    fn watched(period: u64, answers: &[bool]) -> (bool, usize) {
        let taken = Cell::new(0);
        let told = watch(Duration::from_millis(period), || {
            let good = answers.get(taken.get()).copied().unwrap_or(true);
            taken.set(taken.get() + 1);
            if good { Ok(String::new()) } else { Err(String::new()) }
        });
        (told.is_ok(), taken.get())
    }

    #[test]
    fn two_failures_in_a_row_count_and_one_does_not() {
        assert_eq!(watched(60_000, &[true, false, true, false, false]), (false, 5));
        assert_eq!(watched(0, &[true]), (true, 1));
        assert_eq!(watched(0, &[false, true]), (true, 2));
        assert_eq!(watched(0, &[false, false]), (false, 2));
        let (good, asked) = watched(350, &[]);
        assert!(good && (2..=4).contains(&asked), "{asked}");
    }
}
