//! The trace of one request, while it is under way.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use http::{HeaderMap, HeaderValue};

use super::context::{Parent, SpanId, TraceId, header};
use crate::reason::Reason;

/// So many attempts of one request are recorded: the first ones and the last one. A farm whose
/// servers are all gone can be tried 64 times in a moment.
const MOST: usize = 8;

/// The trace that a request belongs to, and what is recorded of it.
#[derive(Debug)]
pub struct Trace {
    pub(super) id: TraceId,
    /// The span of this request.
    pub(super) span: SpanId,
    /// What a proxy in front says called it.
    pub(super) parent: Option<SpanId>,
    pub(super) state: Option<HeaderValue>,
    sampled: bool,
    /// When its first byte came.
    pub(super) started: Instant,
    pub(super) attempts: Vec<Attempt>,
    /// How many there were.
    tried: usize,
}

/// One attempt at a server.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) span: SpanId,
    /// How many came before it.
    pub(super) number: usize,
    pub(super) to: Target,
    pub(super) begun: Instant,
    /// When it broke; otherwise it lasts as long as the request.
    pub(super) ended: Option<Instant>,
    /// What the server answered.
    pub(super) status: Option<u16>,
    /// Why it broke, where that was not the client's doing.
    pub(super) error: Option<&'static str>,
}

/// Where an attempt goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name of the server.
    pub server: Arc<str>,
    /// Its DNS name; `None`: it is known by its address.
    pub host: Option<Arc<str>>,
    /// The address that is tried.
    pub address: SocketAddr,
    /// Over TLS.
    pub https: bool,
}

impl Trace {
    /// Begins with a request whose first byte came at `started`. `said` are its header fields, if
    /// who brought it is believed; then they also decide whether it is recorded. Otherwise that is
    /// `share` percent of all. `None`: there are no random numbers.
    pub fn begin(share: u8, said: Option<&HeaderMap>, started: Instant) -> Option<Self> {
        let (mut id, span) = (random::<16>()?, random::<8>()?);
        let parent = said.and_then(Parent::read);
        let sampled = parent.as_ref().map_or_else(|| falls_to(&id, share), |parent| parent.sampled);
        let (mut caller, mut state) = (None, None);
        if let Some(parent) = parent {
            (id, caller, state) = (parent.trace, Some(parent.span), parent.state);
        }
        let (attempts, tried) = (Vec::new(), 0);
        Some(Self { id, span, parent: caller, state, sampled, started, attempts, tried })
    }

    /// Whether it is recorded.
    pub fn sampled(&self) -> bool {
        self.sampled
    }

    /// An attempt at a server begins.
    pub fn attempt(&mut self, to: Target, now: Instant) {
        let Some(span) = random() else { return };
        let (number, ended, status, error) = (self.tried, None, None, None);
        self.attempts.truncate(MOST - 1);
        self.attempts.push(Attempt { span, number, to, begun: now, ended, status, error });
        self.tried += 1;
    }

    /// The server answered.
    pub fn answered(&mut self, status: u16) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.status = Some(status);
        }
    }

    /// The attempt broke.
    pub fn broke(&mut self, why: Reason, now: Instant) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.ended = Some(now);
            // Statuses below are the client's doing.
            attempt.error = (why.status >= 500).then_some(why.code);
        }
    }

    /// `traceparent` for the server.
    pub fn header(&self) -> HeaderValue {
        let span = self.attempts.last().map_or(&self.span, |attempt| &attempt.span);
        header(&self.id, span, self.sampled)
    }

    /// `tracestate` for the server.
    pub fn state(&self) -> Option<&HeaderValue> {
        self.state.as_ref()
    }

    /// How many spans it has.
    pub(super) fn spans(&self) -> usize {
        1 + self.attempts.len()
    }
}

/// Whether a new trace is among `share` percent of all. That goes by its number alone, so that
/// everybody who asks the same of it gets the same answer.
fn falls_to(id: &TraceId, share: u8) -> bool {
    let [.., a, b, c, d, e, f, g, h] = *id;
    let dice = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    u128::from(dice) * 100 < u128::from(share) << 64
}

/// Random bytes that are not all zero.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    boring::rand::rand_bytes(&mut bytes).ok()?;
    (bytes != [0; N]).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason;

    const SAID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0";

    fn headers(sampled: u8) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", format!("{SAID}{sampled}").parse().unwrap());
        headers.insert("tracestate", HeaderValue::from_static("a=1"));
        headers
    }

    fn target() -> Target {
        let (server, address) = ("fe01".into(), "10.0.0.1:443".parse().unwrap());
        Target { server, host: None, address, https: true }
    }

    #[test]
    fn the_share_is_kept() {
        let sampled = |share| {
            let traces = (0..10_000).map(|_| Trace::begin(share, None, Instant::now()).unwrap());
            traces.filter(Trace::sampled).count()
        };
        assert_eq!((sampled(0), sampled(100)), (0, 10_000));
        // Six standard deviations.
        assert!((2_240..=2_760).contains(&sampled(25)), "{}", sampled(25));
        let id = |dice: u64| {
            let mut id = [7; 16];
            id[8..].copy_from_slice(&dice.to_be_bytes());
            id
        };
        assert!(falls_to(&id(0), 1) && !falls_to(&id(0), 0));
        assert!(falls_to(&id(u64::MAX), 100) && !falls_to(&id(u64::MAX), 99));
        assert!(falls_to(&id(u64::MAX / 2), 50) && !falls_to(&id(u64::MAX / 2 + 1), 50));
    }

    #[test]
    fn who_is_believed_decides() {
        let now = Instant::now();
        for share in [0, 100] {
            for sampled in [0, 1] {
                let trace = Trace::begin(share, Some(&headers(sampled)), now).unwrap();
                assert_eq!(trace.sampled(), sampled == 1);
                assert_eq!(trace.parent, Some([0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]));
                assert_eq!(trace.state().unwrap(), "a=1");
                let header = trace.header();
                let header = header.to_str().unwrap();
                assert!(header.starts_with(&SAID[..36]) && !header.contains("00f067aa0ba902b7"));
                assert!(header.ends_with(&format!("-0{sampled}")), "{header}");
            }
        }
        let trace = Trace::begin(100, Some(&HeaderMap::new()), now).unwrap();
        assert!(trace.parent.is_none() && trace.state().is_none() && trace.sampled());
    }

    #[test]
    fn a_server_is_told_of_its_own_attempt() {
        let now = Instant::now();
        let mut trace = Trace::begin(100, None, now).unwrap();
        let own = trace.header();
        trace.attempt(target(), now);
        trace.broke(reason::CONNECT_FAILED, now);
        let first = trace.header();
        trace.attempt(target(), now);
        trace.answered(200);
        trace.broke(reason::CLIENT_LEFT, now);
        assert!(own != first && first != trace.header());
        let seen: Vec<_> = trace.attempts.iter().map(|a| (a.status, a.error)).collect();
        assert_eq!(seen, [(None, Some("connect_failed")), (Some(200), None)]);
        assert_eq!(trace.spans(), 3);
    }

    #[test]
    fn of_many_attempts_the_first_ones_and_the_last_one_are_recorded() {
        let now = Instant::now();
        let mut trace = Trace::begin(100, None, now).unwrap();
        (0..64).for_each(|_| trace.attempt(target(), now));
        let numbers: Vec<_> = trace.attempts.iter().map(|attempt| attempt.number).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 63]);
    }
}
