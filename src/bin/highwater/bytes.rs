//! Stored keys and values for human eyes: types are not stored, so they are guessed.

use highwater::EventTime;

/// The bytes of a key as the user names it: `0x..`, or text.
pub fn parse(text: &str) -> Vec<u8> {
    let hex = text.strip_prefix("0x").filter(|hex| hex.len() % 2 == 0 && hex.is_ascii());
    let byte = |index: usize| u8::from_str_radix(&hex?[index..index + 2], 16).ok();
    let bytes = hex.and_then(|hex| (0..hex.len()).step_by(2).map(byte).collect());
    bytes.unwrap_or_else(|| text.as_bytes().to_vec())
}

pub fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// A stored key, by the kind of its operator.
pub fn key(kind: &str, group: u16, key: &[u8]) -> String {
    match kind {
        "window" if key.len() >= 16 => {
            let window = format!("[{}, {})", time(&key[..8]), time(&key[8..16]));
            if group == 1024 {
                return format!("{window} is open");
            }
            let (key, serial) = key[16..].split_at(key.len().saturating_sub(20));
            let part = if serial == [0; 4] { "" } else { " (part)" };
            format!("{window} {}{part}", guess(key))
        }
        "process" | "process_on_arrival" if key.first() == Some(&0) => guess(&key[1..]),
        "process" | "process_on_arrival" if key.len() > 9 => {
            let micros = key[1..].first_chunk::<8>().map_or(0, |b| i64::from_le_bytes(*b));
            format!("waiting since {}", EventTime::from_micros(micros))
        }
        _ => guess(key),
    }
}

pub fn value(value: &[u8]) -> String {
    guess(value)
}

fn time(bytes: &[u8]) -> EventTime {
    let bits = bytes.first_chunk::<8>().map_or(0, |b| u64::from_be_bytes(*b));
    EventTime::from_micros((bits ^ (1 << 63)) as i64)
}

fn guess(bytes: &[u8]) -> String {
    if let Some((length, text)) = bytes.split_first_chunk::<8>()
        && u64::from_le_bytes(*length) == text.len() as u64
        && let Ok(text) = std::str::from_utf8(text)
    {
        return format!("{text:?}");
    }
    let number = match *bytes {
        [a] => Some(u64::from(a)),
        [a, b] => Some(u64::from(u16::from_le_bytes([a, b]))),
        [a, b, c, d] => Some(u64::from(u32::from_le_bytes([a, b, c, d]))),
        _ if bytes.len() == 8 => bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b)),
        _ => None,
    };
    match number {
        Some(number) => number.to_string(),
        None => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("0x{hex}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_guessed_and_found_again() {
        let mut stored = 2u64.to_le_bytes().to_vec();
        stored.extend_from_slice(b"UA");
        assert_eq!(key("running", 3, &stored), "\"UA\"");
        assert!(contains(&stored, &parse("UA")) && contains(&stored, &parse("0x5541")));
        assert!(!contains(&stored, &parse("AU")));
        assert_eq!(value(&7u64.to_le_bytes()), "7");
        assert_eq!(value(&[1, 2, 3]), "0x010203");
    }
}
