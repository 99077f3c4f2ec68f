//! D-Bus messages as bytes (D-Bus specification, "Message Protocol"): as much of it as talking to systemd needs.

/// A property's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `s`
    Text(String),
    /// `b`
    Flag(bool),
    /// `t`
    Number(u64),
    /// `au`
    Numbers(Vec<u32>),
    /// `ay`
    Bytes(Vec<u8>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Value::Text(_) => "s",
            Value::Flag(_) => "b",
            Value::Number(_) => "t",
            Value::Numbers(_) => "au",
            Value::Bytes(_) => "ay",
            Value::Pairs(_) => "a(ss)",
        }
    }
}

/// Bytes with the alignment that D-Bus wants, little-endian.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    /// `s` and `o`.
    pub(super) fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    /// `g`
    fn signature(&mut self, signature: &str) {
        self.bytes.push(signature.len() as u8);
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
    }

    /// An array, whose length counts neither itself nor the padding before its first element.
    fn array(&mut self, element: usize, fill: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        self.align(element);
        let start = self.bytes.len();
        fill(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Text(text) => self.text(text),
            Value::Flag(flag) => self.u32(u32::from(*flag)),
            Value::Number(number) => {
                self.align(8);
                self.bytes.extend(number.to_le_bytes());
            }
            Value::Numbers(numbers) => self.array(4, |list| {
                for number in numbers {
                    list.u32(*number);
                }
            }),
            Value::Bytes(bytes) => self.array(1, |list| list.bytes.extend(bytes)),
            Value::Pairs(pairs) => self.array(8, |list| {
                for (first, second) in pairs {
                    list.align(8);
                    list.text(first);
                    list.text(second);
                }
            }),
        }
    }

    /// `a(sv)`
    pub(super) fn properties(&mut self, properties: &[(String, Value)]) {
        self.array(8, |list| {
            for (name, value) in properties {
                list.align(8);
                list.text(name);
                list.variant(value);
            }
        });
    }

    /// `a(sa(sv))` without elements.
    pub(super) fn nothing(&mut self) {
        self.array(8, |_| ());
    }
}

/// A method call to `destination`.
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    /// Of the body.
    pub(super) signature: &'a str,
}

impl Call<'_> {
    /// The whole message; `serial` is not 0.
    pub(super) fn message(&self, serial: u32, body: Writer) -> Vec<u8> {
        // Little-endian, a method call, no flags, protocol version 1.
        let mut head = Writer { bytes: vec![b'l', METHOD_CALL, 0, 1] };
        head.u32(body.bytes.len() as u32);
        head.u32(serial);
        head.array(8, |fields| {
            for (code, kind, text) in [
                (PATH, "o", self.path),
                (INTERFACE, "s", self.interface),
                (MEMBER, "s", self.member),
                (DESTINATION, "s", self.destination),
                (SIGNATURE, "g", self.signature),
            ] {
                if text.is_empty() {
                    continue;
                }
                fields.align(8);
                fields.bytes.push(code);
                fields.signature(kind);
                if kind == "g" { fields.signature(text) } else { fields.text(text) }
            }
        });
        head.align(8);
        head.bytes.extend(body.bytes);
        head.bytes
    }
}

const METHOD_CALL: u8 = 1;
/// Kinds of messages.
pub(super) const METHOD_RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

/// Codes of header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// Bytes before the header fields' array ends its length.
pub(super) const FIXED: usize = 16;
/// We are told paths and names only; more is a mistake or an attack.
const LARGEST: usize = 1 << 20;

/// A message that came, as far as we look at it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) reply_to: u32,
    pub(super) member: String,
    pub(super) error: String,
    signature: String,
    body: Vec<u8>,
}

/// From the first 16 bytes of a message: how long it is, and where its body begins.
pub(super) fn lengths(head: &[u8; FIXED]) -> Option<(usize, usize)> {
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    let (body, fields) = (number(4), number(12));
    if head[0] != b'l' || body > LARGEST || fields > LARGEST {
        return None;
    }
    let start = (FIXED + fields).next_multiple_of(8);
    Some((start + body, start))
}

impl Message {
    /// Reads a whole message.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..FIXED)?.try_into().ok()?;
        let (length, start) = lengths(head)?;
        if bytes.len() != length {
            return None;
        }
        let mut message = Self { kind: bytes[1], body: bytes.get(start..)?.to_vec(), ..Self::default() };
        let fields_end = FIXED + u32::from_le_bytes(bytes[12..16].try_into().ok()?) as usize;
        let mut reader = Reader { bytes: bytes.get(..fields_end)?, at: FIXED };
        while reader.at < fields_end {
            reader.align(8);
            let code = reader.byte()?;
            let kind = reader.signature()?;
            match kind.as_str() {
                "s" | "o" => {
                    let text = reader.text()?;
                    match code {
                        MEMBER => message.member = text,
                        ERROR_NAME => message.error = text,
                        _ => {}
                    }
                }
                "g" => {
                    let text = reader.signature()?;
                    if code == SIGNATURE {
                        message.signature = text;
                    }
                }
                "u" => {
                    let number = reader.u32()?;
                    if code == REPLY_SERIAL {
                        message.reply_to = number;
                    }
                }
                _ => return None,
            }
        }
        Some(message)
    }

    /// The texts of a body of texts, paths and numbers (`u`), and of variants of texts; numbers are left out.
    pub(super) fn texts(&self) -> Option<Vec<String>> {
        let mut reader = Reader { bytes: &self.body, at: 0 };
        let mut texts = Vec::new();
        for kind in self.signature.chars() {
            match kind {
                's' | 'o' => texts.push(reader.text()?),
                'u' => drop(reader.u32()?),
                'v' if reader.signature()? == "s" => texts.push(reader.text()?),
                _ => return None,
            }
        }
        Some(texts)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn until_nul(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }

    fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        self.until_nul(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()?.into();
        self.until_nul(length)
    }
}
