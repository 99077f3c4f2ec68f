//! Undo as a value: each step of a verb pushes what takes it back; success defuses the lot.

/// Steps to take back, last first, when dropped undefused.
#[derive(Default)]
pub(crate) struct Undo(Vec<Box<dyn FnOnce() + Send>>);

impl Undo {
    /// Remembers how to take back what was just done.
    pub(crate) fn push(&mut self, step: impl FnOnce() + Send + 'static) {
        self.0.push(Box::new(step));
    }

    /// Everything succeeded.
    pub(crate) fn defuse(mut self) {
        self.0.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        while let Some(step) = self.0.pop() {
            step();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_failure_takes_back_last_first_and_success_nothing() {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let filled = |taken: &Arc<Mutex<Vec<u8>>>| {
            let mut undo = Undo::default();
            for step in 1..=3 {
                let taken = taken.clone();
                undo.push(move || taken.lock().unwrap().push(step));
            }
            undo
        };
        drop(filled(&taken));
        filled(&taken).defuse();
        assert_eq!(*taken.lock().unwrap(), [3, 2, 1]);
    }
}
