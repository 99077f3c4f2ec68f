//! As much of an ELF file as tells whether it stands alone.

use anyhow::{Context, Result, bail};

const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;

/// Fails, with what it wants, if a 64-bit little-endian program needs a loader or libraries of the machine it runs on.
pub(crate) fn want_static(file: &[u8]) -> Result<()> {
    if !file.starts_with(b"\x7fELF\x02\x01") {
        bail!("no 64-bit little-endian ELF file");
    }
    let headers = number(file, 32, 8)? as usize;
    let size = number(file, 54, 2)? as usize;
    for index in 0..number(file, 56, 2)? as usize {
        let header = headers + index * size;
        let from = number(file, header + 8, 8)? as usize;
        let length = number(file, header + 32, 8)? as usize;
        match number(file, header, 4)? as u32 {
            PT_INTERP => bail!("it names a loader: it is not static"),
            // A static program that can be loaded anywhere has a dynamic section too, with nothing needed in it.
            PT_DYNAMIC => {
                for entry in (from..from + length).step_by(16) {
                    if number(file, entry, 8)? == DT_NEEDED {
                        bail!("it needs shared libraries: it is not static");
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn number(file: &[u8], at: usize, width: usize) -> Result<u64> {
    let bytes = file.get(at..at + width).context("the ELF file is cut short")?;
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_and_not() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        want_static(&own).unwrap();
        let shell = std::fs::read("/usr/bin/env").unwrap();
        assert!(want_static(&shell).unwrap_err().to_string().contains("not static"));
        assert!(want_static(b"#!/bin/sh").is_err());
        assert!(want_static(&own[..60]).is_err());
    }
}
