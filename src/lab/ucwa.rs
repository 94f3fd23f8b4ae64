//! UCWA: applications and their event channel, a GET that the server holds until something
//! happens (pending GET, P-GET).

use std::{
    collections::HashMap,
    fs::File,
    io::ErrorKind,
    path::PathBuf,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::sync::oneshot;

use crate::lab::{
    context::Context,
    message::{Answer, Request},
    tickets,
};

use crate::lock::lock;

/// The applications of a pool.
#[derive(Debug, Default)]
pub(super) struct Applications {
    /// Application by id; what ends its pending GET, once there was one.
    pending: Mutex<HashMap<String, Option<oneshot::Sender<PollEnd>>>>,
    created: AtomicU64,
    /// Where they are when the Front Ends of the pool are processes apart: a file each.
    shared: Option<PathBuf>,
}

/// Why a pending GET ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PollEnd {
    /// Another one came for the same application.
    Replaced,
    /// The application was deleted.
    Deleted,
}

/// A pending GET.
#[derive(Debug)]
pub(super) struct Poll {
    /// Path of the event channel, as sent.
    path: String,
    ack: u64,
    /// How long to hold it.
    pub(super) hold: Duration,
    /// Ends it earlier.
    pub(super) end: oneshot::Receiver<PollEnd>,
}

/// What to do with a request below `/ucwa`.
pub(super) enum Ucwa {
    Answer(Answer),
    Hold(Poll),
}

impl Applications {
    /// Those of a pool whose Front Ends are processes apart.
    pub(super) fn shared(dir: PathBuf) -> Self {
        Self { shared: Some(dir), ..Self::default() }
    }

    fn create(&self) -> String {
        loop {
            let id = (101_000_000 + self.created.fetch_add(1, Ordering::Relaxed)).to_string();
            if let Some(dir) = &self.shared {
                match std::fs::create_dir_all(dir).and_then(|()| File::create_new(dir.join(&id))) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                    Err(error) => log::warn!("lab: {}: {error}", dir.join(&id).display()),
                    Ok(_) => {}
                }
            }
            self.lock().insert(id.clone(), None);
            return id;
        }
    }

    /// The file of an application, if it is a file. Nothing but digits reaches the file system.
    fn file(&self, id: &str) -> Option<PathBuf> {
        let name = id.bytes().all(|b| b.is_ascii_digit()).then_some(id)?;
        Some(self.shared.as_ref()?.join(name)).filter(|file| file.is_file())
    }

    /// A new pending GET on `id`; ends the one before. `None` when there is no such application.
    fn hold(&self, id: &str) -> Option<oneshot::Receiver<PollEnd>> {
        let (sender, receiver) = oneshot::channel();
        if !self.exists(id) {
            return None;
        }
        let before = self.lock().entry(id.to_owned()).or_default().replace(sender);
        if let Some(before) = before {
            // A failed send means that the poll before had ended already.
            let _ = before.send(PollEnd::Replaced);
        }
        Some(receiver)
    }

    fn delete(&self, id: &str) -> bool {
        let existed = self.exists(id);
        if let Some(file) = self.file(id) {
            // Another Front End may have been faster.
            let _ = std::fs::remove_file(file);
        }
        if let Some(Some(pending)) = self.lock().remove(id) {
            let _ = pending.send(PollEnd::Deleted);
        }
        existed
    }

    fn exists(&self, id: &str) -> bool {
        match self.shared {
            Some(_) => self.file(id).is_some(),
            None => self.lock().contains_key(id),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Option<oneshot::Sender<PollEnd>>>> {
        lock(&self.pending)
    }
}

impl Poll {
    /// The answer when the time is over (`None`) or something ended it.
    pub(super) fn answer(&self, end: Option<PollEnd>) -> Answer {
        let Self { path, ack, .. } = self;
        match end {
            None => Answer::json(
                200,
                &json!({
                    "_links": {
                        "self": { "href": format!("{path}?ack={ack}") },
                        "next": { "href": format!("{path}?ack={}", ack + 1) },
                    },
                    "sender": [],
                }),
            ),
            Some(PollEnd::Replaced) => failure(409, "Conflict", "PGetReplaced"),
            Some(PollEnd::Deleted) => failure(404, "NotFound", "ApplicationNotFound"),
        }
    }
}

/// Answers a request below `/ucwa`; `below` are the path segments after it.
pub(super) fn answer(context: &Context, request: &Request, below: &[String]) -> Ucwa {
    if context.is_overloaded() {
        let busy = failure(503, "ServiceUnavailable", "ServiceBusy");
        return Ucwa::Answer(busy.with("Retry-After", "5"));
    }
    if !matches!(request.method.as_str(), "GET" | "POST" | "PUT" | "DELETE") {
        return Ucwa::Answer(not_allowed("GET, POST, PUT, DELETE"));
    }
    let known = request
        .bearer()
        .and_then(tickets::user_of_token)
        .or_else(|| request.header("x-ms-webticket").and_then(tickets::user_of_web_ticket));
    let Some(user) = known else {
        return Ucwa::Answer(tickets::challenge(context, request));
    };
    let below: Vec<&str> = below.iter().map(String::as_str).collect();
    let (below, base) = match below.as_slice() {
        ["oauth", "v1", "applications", rest @ ..] => (rest, "/ucwa/oauth/v1/applications"),
        ["v1", "applications", rest @ ..] => (rest, "/ucwa/v1/applications"),
        _ => return Ucwa::Answer(failure(404, "NotFound", "ResourceNotFound")),
    };
    let applications = &context.applications;
    let missing = || failure(404, "NotFound", "ApplicationNotFound");
    Ucwa::Answer(match (request.method.as_str(), below) {
        ("POST", []) => created(base, &applications.create(), &user),
        ("GET", [id]) if applications.exists(id) => Answer::json(200, &resource(base, id, &user)),
        ("DELETE", [id]) if applications.delete(id) => Answer::empty(204),
        ("GET", [id, "events"]) => match applications.hold(id) {
            Some(end) => return Ucwa::Hold(poll(context, request, end)),
            None => missing(),
        },
        (_, []) => not_allowed("POST"),
        (_, [id]) if applications.exists(id) => not_allowed("GET, DELETE"),
        (_, [id, "events"]) if applications.exists(id) => not_allowed("GET"),
        (_, [id, ..]) if applications.exists(id) => failure(404, "NotFound", "ResourceNotFound"),
        _ => missing(),
    })
}

/// The real server holds for at least 180 s and at most 1800; the lab takes the client's word,
/// so that a test need not wait.
fn poll(context: &Context, request: &Request, end: oneshot::Receiver<PollEnd>) -> Poll {
    let path = request.target.split('?').next().unwrap_or(&request.target).to_owned();
    let hold = Duration::from_secs(request.number("timeout", context.poll.as_secs()));
    Poll { path, ack: request.number("ack", 1), hold, end }
}

fn created(base: &str, id: &str, user: &str) -> Answer {
    let token = tickets::token(user);
    let value = token.strip_prefix("cwt=").unwrap_or(&token);
    Answer::json(201, &resource(base, id, user))
        .with("Location", format!("{base}/{id}"))
        .with("Set-Cookie", format!("cwt_ucwa={value}; path={base}/{id}/photos; secure; HttpOnly"))
}

fn resource(base: &str, id: &str, user: &str) -> serde_json::Value {
    json!({
        "culture": "en-US",
        "_links": {
            "self": { "href": format!("{base}/{id}") },
            "events": { "href": format!("{base}/{id}/events?ack=1") },
        },
        "_embedded": { "me": { "uri": format!("sip:{user}") } },
        "rel": "application",
    })
}

fn failure(status: u16, code: &str, subcode: &str) -> Answer {
    Answer::json(status, &json!({ "code": code, "subcode": subcode, "message": subcode }))
}

fn not_allowed(allow: &str) -> Answer {
    failure(405, "MethodNotAllowed", "MethodNotAllowed").with("Allow", allow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{context::tests::context, estate::SiteKind};

    fn ask(context: &Context, method: &str, target: &str) -> Ucwa {
        let mut header =
            pingora::http::RequestHeader::build(method, target.as_bytes(), None).unwrap();
        let token = format!("Bearer {}", tickets::token("alice@contoso.com"));
        header.append_header("Authorization", token).unwrap();
        header.append_header("Host", "lyncweb.contoso.com").unwrap();
        let request = Request::new(&header);
        let path = request.path.clone().unwrap();
        answer(context, &request, &path[1..])
    }

    fn status(ucwa: Ucwa) -> u16 {
        match ucwa {
            Ucwa::Answer(answer) => answer.status,
            Ucwa::Hold(_) => panic!("held"),
        }
    }

    fn held(ucwa: Ucwa) -> Poll {
        match ucwa {
            Ucwa::Answer(answer) => panic!("answered {}", answer.status),
            Ucwa::Hold(poll) => poll,
        }
    }

    fn application(context: &Context) -> String {
        match ask(context, "POST", "/ucwa/oauth/v1/applications") {
            Ucwa::Answer(answer) => {
                assert_eq!(answer.status, 201);
                let cookie = answer.headers.iter().find(|(name, _)| *name == "Set-Cookie").unwrap();
                assert!(cookie.1.starts_with("cwt_ucwa="), "{}", cookie.1);
                answer.headers.iter().find(|(name, _)| *name == "Location").unwrap().1.clone()
            }
            Ucwa::Hold(_) => panic!("held"),
        }
    }

    #[test]
    fn a_second_poll_ends_the_first() {
        let context = context("fe01", SiteKind::External, true);
        let application = application(&context);
        let mut first = held(ask(&context, "GET", &format!("{application}/events?ack=1")));
        let mut second = held(ask(&context, "GET", &format!("{application}/events?ack=1")));
        assert_eq!(first.end.try_recv(), Ok(PollEnd::Replaced));
        assert!(second.end.try_recv().is_err());
        let answer = first.answer(Some(PollEnd::Replaced));
        assert_eq!(answer.status, 409);
        assert!(String::from_utf8_lossy(&answer.body).contains("PGetReplaced"));
    }

    #[test]
    fn a_poll_lasts_as_asked_and_names_the_next() {
        let context = context("fe01", SiteKind::External, true);
        let application = application(&context);
        let poll = held(ask(&context, "GET", &format!("{application}/events?ack=7&timeout=900")));
        assert_eq!(poll.hold, Duration::from_secs(900));
        let body = String::from_utf8(poll.answer(None).body.to_vec()).unwrap();
        assert!(body.contains(&format!("{application}/events?ack=8")), "{body}");
        let poll = held(ask(&context, "GET", &format!("{application}/events?ack=1")));
        assert_eq!(poll.hold, Duration::from_secs(180));
    }

    #[test]
    fn deleting_an_application_ends_its_poll() {
        let context = context("fe01", SiteKind::External, true);
        let application = application(&context);
        let mut poll = held(ask(&context, "GET", &format!("{application}/events?ack=1")));
        assert_eq!(status(ask(&context, "DELETE", &application)), 204);
        assert_eq!(poll.end.try_recv(), Ok(PollEnd::Deleted));
        assert_eq!(status(ask(&context, "GET", &application)), 404);
        assert_eq!(status(ask(&context, "DELETE", &application)), 404);
    }

    #[test]
    fn only_four_methods_exist() {
        let context = context("fe01", SiteKind::External, true);
        for method in ["HEAD", "OPTIONS", "TRACE", "PATCH"] {
            assert_eq!(status(ask(&context, method, "/ucwa/oauth/v1/applications")), 405);
        }
        assert_eq!(status(ask(&context, "GET", "/ucwa/oauth/v1/applications")), 405);
    }

    #[test]
    fn an_overloaded_server_says_503() {
        let context = context("fe01", SiteKind::External, true);
        context.overloaded.store(true, Ordering::Relaxed);
        assert_eq!(status(ask(&context, "POST", "/ucwa/oauth/v1/applications")), 503);
    }

    #[test]
    fn front_ends_apart_know_each_others_applications() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = [(); 2].map(|()| Applications::shared(dir.path().join("pool")));
        let first = one.create();
        let second = two.create();
        assert_ne!(first, second);
        assert!(one.exists(&second) && two.exists(&first));
        assert!(two.hold(&first).is_some());
        assert!(one.delete(&second) && !two.exists(&second) && !two.delete(&second));
        // Also those of a Front End that was started anew; and nothing that is no application.
        assert!(Applications::shared(dir.path().join("pool")).exists(&first));
        assert!(!one.exists("../pool") && !one.exists("") && two.hold("7").is_none());
    }
}
