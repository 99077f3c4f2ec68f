//! `update`: changes the limits of a container.

use oci::spec::{BlockIo, Cpu, Memory, Pids, Resources, Status};

use super::Context;
use crate::{
    cgroup::{self, Standing},
    cli::Call,
    container::Container,
    error::{During, Error, Result},
    spec,
};

pub(super) fn update(context: &mut Context) -> Result<u8> {
    let call = &context.call;
    let change = match call.value("resources") {
        Some("-") => read_standard_input()?,
        Some(path) => spec::read_json(path.as_ref())?,
        None => from_flags(call)?,
    };
    let container = Container::load(&context.global.root, call.id())?;
    let _lock = container.lock()?;
    for flag in ["l3-cache-schema", "mem-bw-schema"] {
        if call.value(flag).is_some_and(|value| !value.is_empty()) {
            let why = if container.record.rdt.groups.is_empty() {
                "the container has no Intel RDT group (linux.intelRdt)"
            } else {
                "the Intel RDT group of a container that runs cannot be changed"
            };
            return Err(Error::new(format!("--{flag}: {why}")));
        }
    }
    if container.status() == Status::Stopped {
        return Err(Error::new("cannot update a stopped container"));
    }
    let host = cgroup::detect()?;
    let record = &container.record;
    let standing = Standing {
        host: &host,
        places: &record.places,
        unit: record.unit.as_ref(),
        resources: &record.resources,
    };
    cgroup::update(standing, &change, |resources| {
        let mut record = record.clone();
        record.resources = resources.clone();
        record.write(&container.directory)
    })?;
    Ok(0)
}

fn read_standard_input() -> Result<Resources> {
    let text = std::io::read_to_string(std::io::stdin()).during(|| "read standard input")?;
    serde_json::from_str(&text).map_err(|error| Error::new(format!("standard input: {error}")))
}

/// As runc reads them: an empty value is no value, and bytes may have a unit.
fn from_flags(call: &Call) -> Result<Resources> {
    let number = |flag: &str| -> Result<Option<i64>> {
        let Some(text) = call.value(flag).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|_| Error::new(format!("invalid value for {flag}: {text:?} is no number")))
    };
    let positive = |flag: &str| -> Result<Option<u64>> {
        let refuse = |value: i64| Error::new(format!("invalid value for {flag}: {value} is negative"));
        number(flag)?.map(|value| u64::try_from(value).map_err(|_| refuse(value))).transpose()
    };
    let size = |flag: &str| -> Result<Option<i64>> {
        let text = call.value(flag).filter(|text| !text.is_empty());
        text.map(|text| bytes(text).ok_or_else(|| Error::new(format!("invalid value for {flag}: {text:?}"))))
            .transpose()
    };
    let text = |flag: &str| call.value(flag).filter(|text| !text.is_empty()).map(str::to_owned);
    let weight = positive("blkio-weight")?;
    let weight = weight.map(|weight| {
        u16::try_from(weight).map_err(|_| Error::new(format!("invalid value for blkio-weight: {weight}")))
    });
    Ok(Resources {
        memory: Some(Memory {
            limit: size("memory")?,
            reservation: size("memory-reservation")?,
            swap: size("memory-swap")?,
            kernel: size("kernel-memory")?,
            kernel_tcp: size("kernel-memory-tcp")?,
            ..Memory::default()
        }),
        cpu: Some(Cpu {
            shares: positive("cpu-share")?,
            quota: number("cpu-quota")?,
            burst: positive("cpu-burst")?,
            period: positive("cpu-period")?,
            realtime_runtime: number("cpu-rt-runtime")?,
            realtime_period: positive("cpu-rt-period")?,
            cpus: text("cpuset-cpus"),
            mems: text("cpuset-mems"),
            idle: number("cpu-idle")?,
        }),
        pids: number("pids-limit")?.filter(|limit| *limit != 0).map(|limit| Pids { limit: Some(limit) }),
        block_io: Some(BlockIo { weight: weight.transpose()?, ..BlockIo::default() }),
        ..Resources::default()
    })
}

/// `-1`, or a number with `b`, `k`, `m`, `g` or `t` (as 1024), and what else Docker's units allow after it.
fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match lower[digits.len()..].trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let number: f64 =
        digits.trim().parse().ok().filter(|number: &f64| *number >= 0.0 && number.is_finite())?;
    let bytes = number * (1_i64 << shift) as f64;
    (bytes < i64::MAX as f64).then_some(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_units() {
        for (text, number) in [
            ("-1", Some(-1)),
            ("64m", Some(64 << 20)),
            ("1.5GB", Some(3 << 29)),
            ("100", Some(100)),
            ("2KiB", Some(2048)),
        ] {
            assert_eq!(bytes(text), number, "{text}");
        }
        for text in ["", "m", "-2", "5x", "1e40", "nan"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
