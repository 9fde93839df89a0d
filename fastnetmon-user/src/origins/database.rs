//! Makes MaxMind databases, for tests: <https://maxmind.github.io/MaxMind-DB/>, version 2.0.

use std::net::IpAddr;

/// A value, as its bytes.
pub(crate) type Value = Vec<u8>;

/// A record: fields by name.
pub(crate) type Record = Vec<(&'static str, Value)>;

/// How a database is made.
pub(crate) struct Make {
    /// 24, 28 or 32.
    pub(crate) record_bits: u16,
    /// 4 or 6.
    pub(crate) version: u16,
}

impl Default for Make {
    fn default() -> Self {
        Self { record_bits: 24, version: 6 }
    }
}

/// Control byte, and length in the longer forms.
fn head(kind: u8, length: usize) -> Vec<u8> {
    let (first, more) = match length {
        0..29 => (length, vec![]),
        29..285 => (29, vec![u8::try_from(length - 29).unwrap()]),
        _ => (30, u16::try_from(length - 285).unwrap().to_be_bytes().to_vec()),
    };
    let first = u8::try_from(first).unwrap();
    let mut bytes = if kind > 7 { vec![first, kind - 7] } else { vec![kind << 5 | first] };
    bytes.extend(more);
    bytes
}

pub(crate) fn text(text: &str) -> Value {
    [head(2, text.len()), text.as_bytes().to_vec()].concat()
}

fn number(kind: u8, number: u64) -> Value {
    let bytes = number.to_be_bytes();
    let from = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    [head(kind, bytes.len() - from), bytes[from..].to_vec()].concat()
}

fn map(fields: &[(&str, Value)]) -> Value {
    let mut bytes = head(7, fields.len());
    for (name, value) in fields {
        bytes.extend(text(name));
        bytes.extend(value);
    }
    bytes
}

pub(crate) fn geolite(system: u32, name: &str) -> Record {
    vec![
        ("autonomous_system_number", number(6, system.into())),
        ("autonomous_system_organization", text(name)),
    ]
}

pub(crate) fn country(field: &'static str, code: &str) -> Record {
    let names = map(&[("en", text("A Country"))]);
    vec![(field, map(&[("geoname_id", number(6, 77)), ("iso_code", text(code)), ("names", names)]))]
}

pub(crate) fn ipinfo(asn: &str, name: &str, code: &str, country: &str) -> Record {
    vec![
        ("asn", text(asn)),
        ("as_name", text(name)),
        ("country_code", text(code)),
        ("country", text(country)),
    ]
}

#[derive(Clone, Copy)]
enum Branch {
    Empty,
    Node(usize),
    Data(usize),
}

impl Make {
    /// The file that says so of these prefixes.
    pub(crate) fn file(&self, records: &[(&str, Record)]) -> Vec<u8> {
        let mut nodes = vec![[Branch::Empty; 2]];
        let mut data = Vec::new();
        for (prefix, record) in records {
            let at = data.len();
            data.extend(map(record));
            let (address, length) = prefix.split_once('/').unwrap();
            let length: u32 = length.parse().unwrap();
            let (bits, length) = match address.parse().unwrap() {
                IpAddr::V4(address) if self.version == 4 => {
                    (u128::from(u32::from(address)) << 96, length)
                }
                IpAddr::V4(address) => (u128::from(u32::from(address)), length + 96),
                IpAddr::V6(address) => (u128::from(address), length),
            };
            let mut here = 0;
            for depth in 0..length {
                let side = usize::from(bits >> (127 - depth) & 1 == 1);
                if depth + 1 == length {
                    nodes[here][side] = Branch::Data(at);
                    break;
                }
                here = match nodes[here][side] {
                    Branch::Node(next) => next,
                    Branch::Empty => {
                        nodes.push([Branch::Empty; 2]);
                        let next = nodes.len() - 1;
                        nodes[here][side] = Branch::Node(next);
                        next
                    }
                    Branch::Data(_) => panic!("{prefix} lies within another"),
                };
            }
        }
        let mut file = Vec::new();
        for node in &nodes {
            let [left, right] = node.map(|branch| {
                let number = match branch {
                    Branch::Empty => nodes.len(),
                    Branch::Node(number) => number,
                    Branch::Data(at) => nodes.len() + 16 + at,
                };
                u32::try_from(number).unwrap().to_be_bytes()
            });
            match self.record_bits {
                24 => file.extend([&left[1..], &right[1..]].concat()),
                28 => {
                    file.extend(&left[1..]);
                    file.push(left[0] << 4 | right[0] & 15);
                    file.extend(&right[1..]);
                }
                _ => file.extend([left, right].concat()),
            }
        }
        file.extend([0; 16]);
        file.extend(data);
        file.extend(b"\xab\xcd\xefMaxMind.com");
        file.extend(map(&[
            ("binary_format_major_version", number(5, 2)),
            ("binary_format_minor_version", number(5, 0)),
            ("build_epoch", number(9, 1_795_000_000)),
            ("database_type", text("Test")),
            ("description", map(&[("en", text("made by a test"))])),
            ("ip_version", number(5, self.version.into())),
            ("languages", head(11, 0)),
            ("node_count", number(6, u64::try_from(nodes.len()).unwrap())),
            ("record_size", number(5, self.record_bits.into())),
        ]));
        file
    }
}
