//! `frontgate events`: what changed, and what changes.

use std::{
    io::{self, BufRead, Write},
    time::Duration,
};

use super::admin::AdminArgs;
use crate::{
    admin::{Ask, EventList, Place, ProblemBody},
    events::Event,
    site::Token,
};

/// How long a lost connection is left alone.
const PAUSE: Duration = Duration::from_secs(2);

/// Which events.
#[derive(Debug, clap::Args)]
pub(super) struct EventsArgs {
    /// Go on with what happens from now on, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// This many of the latest ones, 1000 at most
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    admin: AdminArgs,
    /// For programs: one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Tells events. Exit code 1: somebody could not be asked.
pub(super) fn run(args: &EventsArgs) -> i32 {
    let (addresses, token) = match args.admin.reading() {
        Ok(side) => side,
        Err((code, text)) => {
            complain(&text);
            return code;
        }
    };
    let many = addresses.len() > 1;
    let asked = |at: &Place| {
        let teller = Teller { at: many.then(|| at.to_string()), json: args.json };
        tell(args, at, token.as_ref(), &teller).inspect_err(|why| {
            complain(&if many { format!("{at}: {why}") } else { why.clone() });
        })
    };
    let told = std::thread::scope(|scope| {
        // Side by side, because to follow one never ends.
        let asked: Vec<_> = addresses.iter().map(|at| scope.spawn(move || asked(at))).collect();
        asked.into_iter().map(|one| one.join().is_ok_and(|told| told.is_ok())).collect::<Vec<_>>()
    });
    i32::from(told.contains(&false))
}

fn tell(
    args: &EventsArgs,
    at: &Place,
    token: Option<&Token>,
    teller: &Teller,
) -> Result<(), String> {
    let path = format!("/api/v1/events?limit={}", args.limit);
    let ask = Ask { method: "GET", path: &path, token, body: "" };
    let (status, body) = ask.at(at).map_err(|e| format!("{e:#}"))?;
    if status != 200 {
        return Err(refusal(status, body));
    }
    let list: EventList = serde_json::from_str(&body).map_err(|e| format!("no events: {e}"))?;
    for event in &list.events {
        if teller.tell(event).is_err() {
            return Ok(());
        }
    }
    let mut last = list.events.last().map_or(list.last, |event| event.id);
    if !args.follow {
        return Ok(());
    }
    loop {
        match follow(at, token, teller, &mut last) {
            Ok(()) => return Ok(()),
            Err(why) => complain(&format!("{at}: {why}; trying again")),
        }
        std::thread::sleep(PAUSE);
    }
}

/// Tells what comes after `last`, until the connection ends (an error) or nobody reads what is
/// told any more.
fn follow(
    at: &Place,
    token: Option<&Token>,
    teller: &Teller,
    last: &mut u64,
) -> Result<(), String> {
    let path = format!("/api/v1/events/stream?after={last}");
    let ask = Ask { method: "GET", path: &path, token, body: "" };
    let (status, mut stream) = ask.stream(at).map_err(|e| format!("{e:#}"))?;
    if status != 200 {
        let mut body = String::new();
        let _ = stream.read_to_string(&mut body);
        return Err(refusal(status, body));
    }
    for line in stream.lines() {
        let line = line.map_err(|e| format!("the connection broke: {e}"))?;
        if let Some(gap) = line.strip_prefix("data: {\"missed\":") {
            complain(&format!("{} events are not kept any more", gap.trim_end_matches('}')));
        } else if let Some(data) = line.strip_prefix("data: ") {
            let event: Event = serde_json::from_str(data).map_err(|e| format!("no event: {e}"))?;
            *last = event.id;
            if teller.tell(&event).is_err() {
                return Ok(());
            }
        }
    }
    Err("the connection ended".to_owned())
}

fn refusal(status: u16, body: String) -> String {
    let said = serde_json::from_str::<ProblemBody>(&body).map_or(body, |body| body.error);
    match status {
        404 => "this Frontgate has no events".to_owned(),
        _ => said.trim().to_owned(),
    }
}

/// How events are told.
struct Teller {
    /// In front of each line, where there are several admin sides.
    at: Option<String>,
    json: bool,
}

impl Teller {
    fn tell(&self, event: &Event) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", self.line(event))?;
        out.flush()
    }

    fn line(&self, event: &Event) -> String {
        if self.json {
            let mut json = serde_json::to_value(event).unwrap_or_default();
            if let (Some(at), Some(object)) = (&self.at, json.as_object_mut()) {
                object.insert("admin".to_owned(), at.as_str().into());
            }
            return json.to_string();
        }
        let Event { time, severity, code, text, .. } = event;
        let time = humantime::format_rfc3339_seconds(*time);
        let at = self.at.as_ref().map(|at| format!("{at}  ")).unwrap_or_default();
        // A text of strangers must not move the cursor.
        let text = text.replace(char::is_control, " ");
        format!("{at}{time}  {:7}  {code:20}  {text}", severity.word())
    }
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "frontgate events: {text}");
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::events::Severity;

    #[test]
    fn a_line_is_for_people_or_programs() {
        let event = Event {
            id: 7,
            time: SystemTime::UNIX_EPOCH,
            code: "server_down".into(),
            severity: Severity::Warning,
            farm: None,
            server: None,
            text: "down\u{1b}[2J".to_owned(),
            details: Default::default(),
        };
        let line = |at: Option<&str>, json| Teller { at: at.map(Into::into), json }.line(&event);
        let text = "1970-01-01T00:00:00Z  warning  server_down           down [2J";
        assert_eq!(line(None, false), text);
        assert_eq!(line(Some("unix:/a"), false), format!("unix:/a  {text}"));
        let json: serde_json::Value = serde_json::from_str(&line(Some("unix:/a"), true)).unwrap();
        assert_eq!((&json["admin"], &json["id"]), (&"unix:/a".into(), &7.into()));
        assert!(!line(None, true).contains("admin"));
    }
}
