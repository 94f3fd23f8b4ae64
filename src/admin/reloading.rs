//! `POST /api/v1/reload`: what it takes and answers, and the way to the loop that reloads.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::StatusCode;
use log::info;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::{answer::Problem, reloads::Reload, view::fault_of};

/// So many may wait for their reload at a time.
const WAITING: usize = 8;
/// How long one is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(110);

/// What `POST /api/v1/reload` takes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadBody {
    /// Who says so, for logs and colleagues; the token is what allows it.
    pub who: String,
    /// Why, for logs and colleagues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What came of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReloadResult {
    /// The new site serves.
    Done,
    /// No file has another content than before.
    Unchanged,
    /// There are errors in the configuration; the old site goes on serving.
    Refused,
    /// It could not be put to work (an address in use …); the old site goes on serving.
    Failed,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What came of it.
    pub result: ReloadResult,
    /// Why it failed at work.
    pub error: Option<String>,
    /// Findings, as `frontgate check --json` tells them.
    pub findings: Value,
    /// The same for people, in compiler style.
    pub text: String,
    /// Keys whose change waits for the next start.
    pub needs_restart: Vec<String>,
}

impl From<&Reload> for Reloaded {
    fn from(reload: &Reload) -> Self {
        Self {
            result: match (reload.result, &reload.error) {
                ("applied", _) => ReloadResult::Done,
                ("unchanged", _) => ReloadResult::Unchanged,
                (_, Some(_)) => ReloadResult::Failed,
                _ => ReloadResult::Refused,
            },
            error: reload.error.clone(),
            findings: reload.findings.clone(),
            text: reload.text.clone(),
            needs_restart: reload.needs_restart.clone(),
        }
    }
}

/// Somebody asked for a reload and waits for what comes of it.
#[derive(Debug)]
pub struct ReloadAsked {
    /// What for, for logs.
    pub told: String,
    answer: oneshot::Sender<Reloaded>,
}

impl ReloadAsked {
    /// Tells whoever waits.
    pub fn answer(self, reloaded: Reloaded) {
        // Who went away does not want to know.
        let _ = self.answer.send(reloaded);
    }
}

/// Whether one caller waits for a reload, so that it is given the time for it.
#[derive(Debug, Default)]
pub(super) struct Waits(AtomicBool);

impl Waits {
    /// At this moment.
    pub(super) fn now(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn begin(&self) -> Waiting<'_> {
        self.0.store(true, Ordering::Release);
        Waiting(self)
    }
}

/// Ends the waiting, however that comes.
struct Waiting<'a>(&'a Waits);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// The way from the API to the one loop that reloads.
#[derive(Debug)]
pub(super) struct AskedReloads {
    ask: mpsc::Sender<ReloadAsked>,
    asked: Mutex<mpsc::Receiver<ReloadAsked>>,
}

impl Default for AskedReloads {
    fn default() -> Self {
        let (ask, asked) = mpsc::channel(WAITING);
        Self { ask, asked: Mutex::new(asked) }
    }
}

impl AskedReloads {
    /// The next one that asks; never, once [`AskedReloads::close`] was called.
    pub(super) async fn next(&self) -> ReloadAsked {
        match self.asked.lock().await.recv().await {
            Some(asked) => asked,
            None => std::future::pending().await,
        }
    }

    /// Nobody is answered any more.
    pub(super) async fn close(&self) {
        let mut asked = self.asked.lock().await;
        asked.close();
        while asked.try_recv().is_ok() {}
    }

    /// Asks for a reload and waits for what comes of it; `waits` tells so meanwhile.
    pub(super) async fn ask(
        &self,
        body: &[u8],
        from: &str,
        waits: &Waits,
    ) -> Result<Reloaded, Problem> {
        let bad = |why: String| Problem::new(StatusCode::BAD_REQUEST, why);
        let ReloadBody { who, why } =
            serde_json::from_slice(body).map_err(|e| bad(format!("the body: {e}")))?;
        let why = why.as_deref().unwrap_or_default().trim();
        if let Some(fault) = fault_of(&[("who", &who, 200), ("why", why, 1000)]) {
            return Err(bad(fault));
        }
        let unavailable = |why: &str| Problem::new(StatusCode::SERVICE_UNAVAILABLE, why);
        let reason = if why.is_empty() { "no reason given" } else { why };
        info!("admin: reload by {} from {from}: {reason}", who.trim());
        let (answer, told) = oneshot::channel();
        let asked = ReloadAsked { told: format!("asked by {}", who.trim()), answer };
        self.ask.try_send(asked).map_err(|_| unavailable("Frontgate is busy, or stopping"))?;
        let _waiting = waits.begin();
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(reloaded)) => Ok(reloaded),
            Ok(Err(_)) => Err(unavailable("Frontgate is stopping")),
            Err(_) => Err(unavailable("the reload still goes on; see the log")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JO: &[u8] = br#"{"who":"jo@ws1"}"#;

    #[tokio::test]
    async fn who_stops_waiting_waits_no_more() {
        let (reloads, waits) = (AskedReloads::default(), Waits::default());
        {
            let ask = reloads.ask(JO, "test", &waits);
            tokio::pin!(ask);
            assert!(tokio::time::timeout(Duration::ZERO, &mut ask).await.is_err());
            assert!(waits.now());
        }
        assert!(!waits.now(), "its connection broke off");
        assert_eq!(reloads.next().await.told, "asked by jo@ws1");
    }

    #[tokio::test]
    async fn whoever_asks_gets_the_answer_of_its_reload() {
        let reloads = AskedReloads::default();
        let reload = Reload::new("test", &crate::config::diagnostic::Findings::default());
        let failed = reload.refused(Some("address in use".to_owned()));
        let serve = async {
            let asked = reloads.next().await;
            assert_eq!(asked.told, "asked by jo@ws1");
            asked.answer(Reloaded::from(&failed));
        };
        let waits = Waits::default();
        let (answer, ()) = tokio::join!(reloads.ask(JO, "test", &waits), serve);
        assert!(!waits.now());
        let answer = answer.unwrap();
        assert_eq!(answer.result, ReloadResult::Failed);
        assert_eq!(answer.error.as_deref(), Some("address in use"));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_frontgate_that_stops() {
        let reloads = AskedReloads::default();
        let waits = Waits::default();
        let (early, ()) = tokio::join!(reloads.ask(JO, "test", &waits), reloads.close());
        assert_eq!(early.unwrap_err().error, "Frontgate is stopping");
        let late = reloads.ask(JO, "test", &waits).await.unwrap_err();
        assert_eq!(late.error, "Frontgate is busy, or stopping");
    }

    #[tokio::test]
    async fn a_body_of_no_sense_reloads_nothing() {
        let reloads = AskedReloads::default();
        for body in ["", "{}", r#"{"who":" "}"#, r#"{"who":"a\nb"}"#, r#"{"who":"a","x":1}"#] {
            let refused =
                reloads.ask(body.as_bytes(), "test", &Waits::default()).await.unwrap_err();
            assert_eq!(refused.status, 400, "{body}");
        }
        assert!(reloads.asked.lock().await.try_recv().is_err());
    }
}
