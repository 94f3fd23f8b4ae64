//! Where answers that grow with the site are written: on threads that serve no traffic, few at a
//! time.

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;

use super::answer::{Answer, Problem};

/// Answers written at once.
const AT_ONCE: usize = 2;
/// Those that may wait for that.
const WAITING: usize = 8;
/// Seconds after which whoever is sent away may come again.
const COME_AGAIN: HeaderValue = HeaderValue::from_static("2");

/// A desk with few places.
///
/// SECURITY: a thousand servers and ten thousand rules take milliseconds to write down. Whoever
/// asks for that over and over must not hold up a request, nor heap up pages that nobody reads.
/// Tests: those_who_come_to_a_full_desk_are_sent_away, work_is_done_where_no_request_waits
#[derive(Debug)]
pub(super) struct Desk {
    /// Places at the desk and before it.
    room: Arc<Semaphore>,
    /// Places at the desk.
    places: Arc<Semaphore>,
}

impl Default for Desk {
    fn default() -> Self {
        let room = Arc::new(Semaphore::new(AT_ONCE + WAITING));
        Self { room, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Desk {
    /// What `work` makes; 503 where too many wait already.
    pub(super) async fn write(&self, work: impl FnOnce() -> Answer + Send + 'static) -> Answer {
        let Ok(room) = self.room.clone().try_acquire_owned() else { return busy() };
        let Ok(place) = self.places.clone().acquire_owned().await else { return busy() };
        let done = tokio::task::spawn_blocking(move || {
            // Kept until it is done: it is not given up when whoever asked goes away.
            let _held = (room, place);
            work()
        });
        done.await.unwrap_or_else(|_| failed().answer())
    }
}

/// A panic, which stands in the log.
pub(super) fn failed() -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "it failed")
}

fn busy() -> Answer {
    let text = "too many ask for this at once";
    let mut answer = Problem::new(StatusCode::SERVICE_UNAVAILABLE, text).answer();
    answer.headers_mut().insert(header::RETRY_AFTER, COME_AGAIN);
    answer
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;
    use crate::admin::answer::text;

    fn done() -> Answer {
        text(StatusCode::OK, "done")
    }

    #[tokio::test]
    async fn work_is_done_where_no_request_waits() {
        let (mine, (told, theirs)) = (thread::current().id(), mpsc::channel());
        let work = move || {
            let _ = told.send(thread::current().id());
            done()
        };
        assert_eq!(Desk::default().write(work).await.status(), StatusCode::OK);
        assert_ne!(theirs.recv().unwrap(), mine);
    }

    #[tokio::test]
    async fn those_who_come_to_a_full_desk_are_sent_away() {
        let desk = Arc::new(Desk::default());
        let (begun, has_begun) = mpsc::channel();
        let mut ends: Vec<mpsc::Sender<()>> = Vec::new();
        let asked: Vec<_> = (0..AT_ONCE + WAITING)
            .map(|_| {
                let (desk, begun, (end, ended)) = (desk.clone(), begun.clone(), mpsc::channel());
                ends.push(end);
                tokio::spawn(async move {
                    let work = move || {
                        let _ = begun.send(());
                        let _ = ended.recv();
                        done()
                    };
                    desk.write(work).await.status()
                })
            })
            .collect();
        // On this one thread they all come to the desk before anything else happens.
        tokio::task::yield_now().await;
        let sent_away = desk.write(done).await;
        assert_eq!(sent_away.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(sent_away.headers()[header::RETRY_AFTER], "2");
        assert_eq!(desk.places.available_permits(), 0);
        // Whoever goes away leaves no place empty while the work goes on.
        has_begun.recv().unwrap();
        asked[0].abort();
        tokio::task::yield_now().await;
        assert_eq!(desk.room.available_permits(), 0);
        drop(ends);
        for (n, asked) in asked.into_iter().enumerate() {
            assert!(n == 0 || asked.await.unwrap() == StatusCode::OK);
        }
        assert_eq!(desk.write(done).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_frees_the_place() {
        let desk = Desk::default();
        for _ in 0..=AT_ONCE + WAITING {
            let status = desk.write(|| panic!("on purpose")).await.status();
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        }
    }
}
