//! Starting a guest: QEMU without hardware help, two serial lines, no network, and a watch on the clock.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::guests::Guest;

/// What a guest starts from.
pub(super) struct Machine<'a> {
    pub(super) guest: &'a Guest,
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    /// Debian's; what is written to it is forgotten.
    pub(super) disk: Option<PathBuf>,
    /// One of no worth.
    pub(super) scratch: PathBuf,
    /// Where what the kernel and its first process say is kept.
    pub(super) console: PathBuf,
}

/// Lines of the console that are shown when a guest ends badly.
const LAST_WORDS: usize = 40;

impl Machine<'_> {
    fn command(&self, words: &str) -> Command {
        let guest = self.guest;
        let mut qemu = Command::new("qemu-system-x86_64");
        // `max` has five levels of page tables, which cost an emulator a fifth.
        qemu.args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2"]);
        qemu.args(["-m", &guest.memory.to_string(), "-nodefaults", "-no-user-config", "-no-reboot"]);
        qemu.args(["-display", "none", "-nic", "none"]);
        qemu.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initrd);
        qemu.arg("-append").arg(format!(
            "console=ttyS0 quiet panic=-1 mitigations=off rcupdate.rcu_expedited=1 rdinit=/init knarr.guest={} {} {words}",
            guest.name, guest.kernel
        ));
        for disk in std::iter::once(&self.scratch).chain(&self.disk) {
            qemu.arg("-drive").arg(format!("file={},if=virtio,format=raw,snapshot=on", disk.display()));
        }
        qemu
    }

    /// Runs it to its end; `heard` gets each line of the report.
    pub(super) fn run(&self, mut heard: impl FnMut(&str)) -> Result<()> {
        let mut qemu = self.command(if self.guest.debian { "systemd.unit=knarr-guest.target" } else { "" });
        qemu.args(["-serial", &format!("file:{}", self.console.display())]);
        qemu.args(["-chardev", "stdio,id=report,signal=off", "-serial", "chardev:report"]);
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut qemu = Running(qemu.spawn().context("qemu-system-x86_64 (package qemu-system-x86)")?);
        let report = BufReader::new(qemu.0.stdout.take().context("the guest's report")?);
        let (hand, lines) = channel();
        let reader = thread::spawn(move || {
            for line in report.split(b'\n').map_while(Result::ok) {
                if hand.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        let end = Instant::now() + Duration::from_secs(self.guest.patience);
        let mut last = String::new();
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    heard(&line);
                    last = line;
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the guest did not end in {} s; {}", self.guest.patience, self.last_words());
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = qemu.0.wait()?;
        let _ = reader.join();
        if last != "@@ bye" || !status.success() {
            bail!("the guest died ({status}); {}", self.last_words());
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let said = fs::read(&self.console).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
        format!("its console's last lines:\n{}", last.join("\n"))
    }

    /// A shell in it on this terminal.
    pub(super) fn shell(&self) -> Result<()> {
        let mut qemu = self.command(if self.guest.debian { "" } else { "knarr.shell" });
        qemu.args(["-serial", "mon:stdio"]);
        crate::shell::run(&mut qemu)
    }
}

/// A machine that is switched off with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
