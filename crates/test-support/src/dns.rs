//! What a small DNS server says (RFC 1035 §4.1).

use std::net::Ipv4Addr;

/// The answer to a query for an address, good for so many seconds: that of a name that `known`
/// knows, no such name for anything else. `known` is given a name in lower case, as labels.
pub fn answer(query: &[u8], ttl: u8, known: impl Fn(&[u8]) -> Option<Ipv4Addr>) -> Option<Vec<u8>> {
    let question = query.get(12..)?;
    let end = question.iter().position(|byte| *byte == 0)? + 1;
    let (name, kind) = (question.get(..end)?, question.get(end..end + 2)?);
    let known = known(&name.to_ascii_lowercase());
    let address = known.filter(|_| kind == [0, 1]);
    let mut message = query.get(..2)?.to_vec();
    // An authoritative answer, recursion available; one question, and one answer if there is one.
    let code = if known.is_some() { 0x80 } else { 0x83 };
    message.extend([0x85, code, 0, 1, 0, u8::from(address.is_some())]);
    message.extend([0; 4]);
    message.extend(question.get(..end + 4)?);
    if let Some(address) = address {
        // The name as in the question, an address, class internet, four bytes.
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, ttl, 0, 4]);
        message.extend(address.octets());
    }
    Some(message)
}

/// The answer of a server that answers every query with this code (RFC 1035 §4.1.1).
pub fn failure(query: &[u8], code: u8) -> Option<Vec<u8>> {
    let question = query.get(12..)?;
    let end = question.iter().position(|byte| *byte == 0)? + 1;
    let mut message = query.get(..2)?.to_vec();
    message.extend([0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend(question.get(..end + 4)?);
    Some(message)
}

/// A name as labels.
pub fn encoded(name: &str) -> Vec<u8> {
    let mut labels = Vec::new();
    for label in name.split('.') {
        labels.push(u8::try_from(label.len()).expect("a label is short"));
        labels.extend(label.bytes());
    }
    labels.push(0);
    labels
}
