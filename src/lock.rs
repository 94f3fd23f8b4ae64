//! Locking that outlives a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. A thread that panicked while it had the lock took one request or task with it; what the
/// lock guards is whole after every step, so the others go on.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_locks_nobody_out() {
        let mutex = Mutex::new(7);
        let thread = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let _held = mutex.lock();
                    panic!("as it happens");
                })
                .join()
        });
        assert!(thread.is_err() && mutex.is_poisoned());
        assert_eq!(*lock(&mutex), 7);
    }
}
