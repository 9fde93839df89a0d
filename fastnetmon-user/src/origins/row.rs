//! What a database says of an address, under whatever names.
//!
//! The names are those of GeoLite2 and GeoIP2 (`autonomous_system_number`, `country.iso_code`), which
//! DB-IP uses too, and of IPinfo (`asn = "AS64500"`, `as_name`, `country_code` or `country`).
//!
//! **Invariant**: text of a database goes to terminals and logs, so only what can be shown is kept of
//! it, and not much.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::model::plain;

/// Characters of a name that are kept.
const NAME: usize = 60;

/// Whose address it is, as far as that is known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origin {
    /// Number of the autonomous system; 0: not known.
    pub system: u32,
    /// Who runs it; empty: not known.
    pub name: Arc<str>,
    /// The country.
    pub country: Option<Country>,
}

/// A country, by its two letters (ISO 3166).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Country([u8; 2]);

impl Country {
    fn new(text: &str) -> Option<Self> {
        match text.as_bytes() {
            &[one, other] if one.is_ascii_alphabetic() && other.is_ascii_alphabetic() => {
                Some(Self([one.to_ascii_uppercase(), other.to_ascii_uppercase()]))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&letter| write!(f, "{}", char::from(letter)))
    }
}

impl Serialize for Country {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A record of a database.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Row<'a> {
    #[serde(borrow)]
    autonomous_system_number: Word<'a>,
    #[serde(borrow)]
    autonomous_system_organization: Word<'a>,
    #[serde(borrow)]
    asn: Word<'a>,
    #[serde(borrow)]
    as_name: Word<'a>,
    #[serde(borrow)]
    country_code: Word<'a>,
    #[serde(borrow)]
    country: Word<'a>,
    #[serde(borrow)]
    registered_country: Word<'a>,
}

impl Row<'_> {
    /// Fills in what is not known yet.
    pub(super) fn add_to(&self, origin: &mut Origin) {
        if origin.system == 0 {
            let numbers = [&self.autonomous_system_number, &self.asn];
            if let Some(system) = numbers.into_iter().find_map(Word::number) {
                origin.system = system;
                let names = [&self.autonomous_system_organization, &self.as_name];
                let name = names.into_iter().find_map(Word::text);
                origin.name = name.map(shown).unwrap_or_default();
            }
        }
        if origin.country.is_none() {
            let countries = [&self.country_code, &self.country, &self.registered_country];
            origin.country = countries.into_iter().filter_map(Word::text).find_map(Country::new);
        }
    }
}

/// A name as it may be shown.
fn shown(name: &str) -> Arc<str> {
    plain(name.trim(), NAME).trim().into()
}

/// A number, a text, or a map of which `iso_code` is wanted. Anything else is none.
#[derive(Debug, Default, Eq, PartialEq)]
enum Word<'a> {
    #[default]
    None,
    Number(u64),
    Text(&'a str),
}

impl<'a> Word<'a> {
    fn number(&self) -> Option<u32> {
        let number = match self {
            Self::Number(number) => u32::try_from(*number).ok(),
            Self::Text(text) => {
                let digits = text.strip_prefix("AS").or_else(|| text.strip_prefix("as"));
                digits.unwrap_or(text).parse().ok()
            }
            Self::None => None,
        };
        number.filter(|number| *number != 0)
    }

    fn text(&self) -> Option<&'a str> {
        match *self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Word<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Word<'de>, E> {
        Ok(Word::Text(text))
    }

    fn visit_str<E>(self, _short_lived: &str) -> Result<Word<'de>, E> {
        Ok(Word::None)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Word<'de>, E> {
        Ok(Word::Number(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Word<'de>, E> {
        Ok(u64::try_from(number).map_or(Word::None, Word::Number))
    }

    fn visit_u128<E>(self, number: u128) -> Result<Word<'de>, E> {
        Ok(u64::try_from(number).map_or(Word::None, Word::Number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Word<'de>, E> {
        Ok(Word::None)
    }

    fn visit_f32<E>(self, _: f32) -> Result<Word<'de>, E> {
        Ok(Word::None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Word<'de>, E> {
        Ok(Word::None)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Word<'de>, E> {
        Ok(Word::None)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Word<'de>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Word::None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Word<'de>, A::Error> {
        let mut found = Word::None;
        while let Some(key) = map.next_key::<&str>()? {
            if key == "iso_code" {
                found = Word::Text(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}
