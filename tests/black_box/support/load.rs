//! Steady load while something else happens.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use super::client::{Answer, Client};

/// Threads that ask the same question over kept-alive connections until told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    wrong: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// `connect` makes a connection; `request` is sent over and over; `good` judges the answer.
    pub fn start(
        clients: usize,
        connect: impl Fn() -> Client + Send + Sync + 'static,
        request: &'static str,
        good: impl Fn(&Answer) -> bool + Send + Sync + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let wrong = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new((connect, good));
        let threads = (0..clients)
            .map(|_| {
                let (stop, answered, wrong, shared) =
                    (stop.clone(), answered.clone(), wrong.clone(), shared.clone());
                std::thread::spawn(move || {
                    let (connect, good) = &*shared;
                    let mut client = connect();
                    while !stop.load(Ordering::Relaxed) {
                        let answer = client.ask(request);
                        if !good(&answer) {
                            wrong.lock().unwrap().push(format!(
                                "{} {}",
                                answer.head,
                                answer.text()
                            ));
                        }
                        if answer.header("connection") == Some("close") {
                            client = connect();
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Self { stop, answered, wrong, threads }
    }

    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Stops and returns how many were answered; panics with the wrong answers, if any.
    pub fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut died = 0;
        for thread in self.threads {
            died += usize::from(thread.join().is_err());
        }
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{} wrong answers, first: {}", wrong.len(), wrong[0]);
        assert_eq!(died, 0, "clients whose connection broke");
        self.answered.load(Ordering::Relaxed)
    }
}
