//! A real terminal, with a person at it.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::{client, until};

/// A command on a terminal. Dropping it hangs up and ends it.
#[derive(Debug)]
pub struct Pty {
    master: File,
    child: Child,
    screen: Receiver<Vec<u8>>,
    unread: String,
}

#[allow(missing_docs)]
impl Pty {
    #[track_caller]
    pub(crate) fn spawn(command: &mut Command, rows: u16, columns: u16) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("open a terminal");
        grantpt(&master).expect("grant the terminal");
        unlockpt(&master).expect("unlock the terminal");
        tcsetwinsize(&master, size(rows, columns)).expect("set the terminal's size");
        let name = ptsname(&master, Vec::new()).expect("name the terminal");
        let slave = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
            .expect("open the terminal");
        let again = |fd: &OwnedFd| fd.try_clone().expect("share the terminal");
        let child = command
            .stdin(again(&slave))
            .stdout(again(&slave))
            .stderr(slave)
            .spawn()
            .expect("start the command");
        let master = File::from(master);
        let screen = screen(master.try_clone().expect("share the terminal"));
        Self { master, child, screen, unread: String::new() }
    }

    /// Waits for this text and returns what came before it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let started = Instant::now();
        loop {
            if let Some(at) = self.unread.find(text) {
                let rest = self.unread.split_off(at + text.len());
                let mut before = std::mem::replace(&mut self.unread, rest);
                before.truncate(at);
                return before;
            }
            let wait = Duration::from_secs(15).saturating_sub(started.elapsed());
            match self.screen.recv_timeout(wait) {
                Ok(bytes) => self.unread.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!("{text:?} did not appear ({error}); on the screen: {:?}", self.unread),
            }
        }
    }

    /// Types. `\r` is Enter, `\x03` Ctrl-C.
    pub fn send(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("type");
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.master, size(rows, columns)).expect("set the terminal's size");
    }

    /// Waits for the command's end.
    #[track_caller]
    pub fn code(&mut self, code: i32) {
        let mut status = None;
        until("the command on the terminal ends", || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        self.unread.extend(self.screen.try_iter().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
        let ended = status.map(client::code);
        assert_eq!(ended, Some(code), "on the screen: {:?}", self.unread);
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn screen(mut master: File) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = master.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}
