//! Elements of tensors in JSON: read from flat or nested arrays, written flat.
//!
//! The texts were found to be JSON before they come here. Numbers are read and written here all the same: each must be
//! what its datatype can hold, to the last digit, and no tree of values is built of a million of them. Floats that are not
//! finite, which JSON has no numbers for, are `null`.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};
use half::{bf16, f16};
use serde_json::value::RawValue;

use super::{Datatype, MAX_RANK, Shape, Tensor, put_element, shortened};

/// How elements of [`Datatype::Bytes`] are written as JSON strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Text {
    /// The string is the element, in UTF-8.
    #[default]
    Plain,
    /// The string is base64 of the element.
    Base64,
}

/// Reads the elements of a tensor: an array of all of them, or arrays nested as the shape is.
///
/// # Errors
/// Which element is not what datatype and shape say.
pub fn read(datatype: Datatype, shape: Shape, text: Text, data: &RawValue) -> Result<Tensor, String> {
    let mut reader = Reader { datatype, shape: &shape, text, elements: BytesMut::new(), count: 0, flat: None };
    // Whoever lies about the shape gets no memory for it: an element takes two characters at least.
    let likely = shape.count().min(data.get().len() / 2);
    reader.elements.reserve(likely.saturating_mul(datatype.size().unwrap_or_default()));
    reader.array(data.get())?;
    let (count, elements) = (reader.count, reader.elements);
    if count != shape.count() {
        return Err(format!("its shape {shape} has {} elements, and its data has {count}", shape.count()));
    }
    Tensor::new(datatype, shape, elements.freeze())
}

/// Appends the elements as one flat array.
///
/// # Errors
/// An element of [`Datatype::Bytes`] is no text and shall be [`Text::Plain`].
pub fn write(tensor: &Tensor, text: Text, out: &mut String) -> Result<(), String> {
    out.push('[');
    match tensor.datatype() {
        Datatype::Bool => put_all(tensor, out, |[byte]: [u8; 1]| byte != 0),
        Datatype::Uint8 => put_all(tensor, out, u8::from_le_bytes),
        Datatype::Uint16 => put_all(tensor, out, u16::from_le_bytes),
        Datatype::Uint32 => put_all(tensor, out, u32::from_le_bytes),
        Datatype::Uint64 => put_all(tensor, out, u64::from_le_bytes),
        Datatype::Int8 => put_all(tensor, out, i8::from_le_bytes),
        Datatype::Int16 => put_all(tensor, out, i16::from_le_bytes),
        Datatype::Int32 => put_all(tensor, out, i32::from_le_bytes),
        Datatype::Int64 => put_all(tensor, out, i64::from_le_bytes),
        Datatype::Fp16 => put_all(tensor, out, |bytes| Float(f16::from_le_bytes(bytes).to_f32())),
        Datatype::Bf16 => put_all(tensor, out, |bytes| Float(bf16::from_le_bytes(bytes).to_f32())),
        Datatype::Fp32 => put_all(tensor, out, |bytes| Float(f32::from_le_bytes(bytes))),
        Datatype::Fp64 => put_all(tensor, out, |bytes| Double(f64::from_le_bytes(bytes))),
        Datatype::Bytes => put_texts(tensor, text, out)?,
    }
    out.push(']');
    Ok(())
}

struct Reader<'a> {
    datatype: Datatype,
    shape: &'a Shape,
    text: Text,
    elements: BytesMut,
    count: usize,
    /// Whether elements stand in the outermost array, once known.
    flat: Option<bool>,
}

impl Reader<'_> {
    /// Goes through the text of a JSON array, whose syntax is known to be right, without recursion.
    fn array(&mut self, text: &str) -> Result<(), String> {
        if !text.starts_with('[') {
            return Err(format!("its data is `{}`, and must be an array", shortened(text)));
        }
        let deepest = self.shape.dimensions().len().max(1);
        // How many entries each open array has so far.
        let mut open: Vec<i64> = Vec::with_capacity(MAX_RANK);
        let mut rest = text;
        while let Some(first) = rest.bytes().next() {
            match first {
                b' ' | b'\t' | b'\n' | b'\r' | b',' => rest = &rest[1..],
                b'[' => {
                    self.enter(&mut open, deepest)?;
                    rest = &rest[1..];
                }
                b']' => {
                    let entries = open.pop().unwrap_or_default();
                    self.leave(open.len(), entries)?;
                    rest = &rest[1..];
                }
                b'{' => return Err(format!("element {} of its data is an object", self.count)),
                _ => {
                    let (element, after) = rest.split_at(length_of_scalar(rest));
                    self.element(element, &mut open, deepest)?;
                    rest = after;
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, open: &mut Vec<i64>, deepest: usize) -> Result<(), String> {
        let depth = open.len();
        if let Some(entries) = open.last_mut() {
            if *self.flat.get_or_insert(false) || depth >= deepest {
                return Err(format!("at element {} its data is nested, unlike its shape {}", self.count, self.shape));
            }
            *entries += 1;
        }
        open.push(0);
        Ok(())
    }

    /// An array at this depth ends; nested ones are as long as the shape says.
    fn leave(&self, depth: usize, entries: i64) -> Result<(), String> {
        let nested = depth > 0 || self.flat == Some(false);
        match self.shape.dimensions().get(depth) {
            Some(expected) if nested && *expected != entries => Err(format!(
                "before element {} its data has an array of {entries} in dimension {depth}, where its shape {} has {expected}",
                self.count, self.shape
            )),
            _ => Ok(()),
        }
    }

    fn element(&mut self, element: &str, open: &mut [i64], deepest: usize) -> Result<(), String> {
        let depth = open.len();
        if depth == 1 {
            if deepest > 1 && !*self.flat.get_or_insert(true) {
                return Err(format!(
                    "element {} stands beside arrays; data is flat or nested as its shape",
                    self.count
                ));
            }
        } else if depth != deepest {
            return Err(format!("element {} is nested less deeply than its shape {}", self.count, self.shape));
        }
        if let Some(entries) = open.last_mut() {
            *entries += 1;
        }
        if self.count == self.shape.count() {
            return Err(format!("its shape {} has {} elements, and its data has more", self.shape, self.count));
        }
        self.put(element).map_err(|reason| format!("element {} {reason}", self.count))?;
        self.count += 1;
        Ok(())
    }

    fn put(&mut self, element: &str) -> Result<(), String> {
        match self.datatype {
            Datatype::Bool => self.elements.put_u8(u8::from(boolean(element)?)),
            Datatype::Uint8 => self.elements.put_u8(self.integer(element)?),
            Datatype::Uint16 => self.elements.put_u16_le(self.integer(element)?),
            Datatype::Uint32 => self.elements.put_u32_le(self.integer(element)?),
            Datatype::Uint64 => self.elements.put_u64_le(self.integer(element)?),
            Datatype::Int8 => self.elements.put_i8(self.integer(element)?),
            Datatype::Int16 => self.elements.put_i16_le(self.integer(element)?),
            Datatype::Int32 => self.elements.put_i32_le(self.integer(element)?),
            Datatype::Int64 => self.elements.put_i64_le(self.integer(element)?),
            Datatype::Fp16 => {
                let number = f16::from_f64(self.double(element)?);
                self.finite(element, number.is_infinite())?;
                self.elements.put_slice(&number.to_le_bytes());
            }
            Datatype::Bf16 => {
                let number = bf16::from_f64(self.double(element)?);
                self.finite(element, number.is_infinite())?;
                self.elements.put_slice(&number.to_le_bytes());
            }
            Datatype::Fp32 => {
                let number = match element {
                    "null" => f32::NAN,
                    _ => number(element, self.datatype)?.parse().map_err(|_| self.refused(element))?,
                };
                self.finite(element, number.is_infinite())?;
                self.elements.put_f32_le(number);
            }
            Datatype::Fp64 => {
                let number = self.double(element)?;
                self.finite(element, number.is_infinite())?;
                self.elements.put_f64_le(number);
            }
            Datatype::Bytes => self.string(element)?,
        }
        Ok(())
    }

    fn integer<T: std::str::FromStr>(&self, element: &str) -> Result<T, String> {
        number(element, self.datatype)?.parse().map_err(|_| self.refused(element))
    }

    fn double(&self, element: &str) -> Result<f64, String> {
        match element {
            "null" => Ok(f64::NAN),
            _ => number(element, self.datatype)?.parse().map_err(|_| self.refused(element)),
        }
    }

    /// Numbers that only infinity is near enough to are refused.
    fn finite(&self, element: &str, infinite: bool) -> Result<(), String> {
        if infinite { Err(self.refused(element)) } else { Ok(()) }
    }

    fn refused(&self, element: &str) -> String {
        format!("is `{}`, which no {} can be", shortened(element), self.datatype)
    }

    fn string(&mut self, element: &str) -> Result<(), String> {
        if !element.starts_with('"') {
            return Err(format!("is `{}`, and BYTES are strings in JSON", shortened(element)));
        }
        // Most have no escapes and are borrowed.
        let text: Cow<'_, str> = match element.contains('\\') {
            true => serde_json::from_str(element).map_err(|error| format!("is no string: {error}"))?,
            false => Cow::Borrowed(&element[1..element.len() - 1]),
        };
        match self.text {
            Text::Plain => put_element(&mut self.elements, text.as_bytes()),
            Text::Base64 => {
                let decoded = STANDARD.decode(text.as_bytes()).map_err(|error| format!("is no base64: {error}"))?;
                put_element(&mut self.elements, &decoded)
            }
        }
    }
}

/// Bytes of the number, string or word that the text begins with.
fn length_of_scalar(text: &str) -> usize {
    let bytes = text.as_bytes();
    if bytes[0] != b'"' {
        let end = bytes.iter().position(|byte| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r'));
        return end.unwrap_or(bytes.len());
    }
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn boolean(element: &str) -> Result<bool, String> {
    match element {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("is `{}`, and a BOOL is true or false", shortened(element))),
    }
}

/// The text itself if it is a number: Rust reads words, such as `inf`, and signs that JSON has not.
fn number(element: &str, datatype: Datatype) -> Result<&str, String> {
    if element.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Ok(element);
    }
    Err(format!("is `{}`, and {datatype} are numbers", shortened(element)))
}

struct Float(f32);
struct Double(f64);

impl std::fmt::Display for Float {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The form for debugging has an exponent where digits would be many, and is a number of JSON.
        if self.0.is_finite() { write!(f, "{:?}", self.0) } else { f.write_str("null") }
    }
}

impl std::fmt::Display for Double {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_finite() { write!(f, "{:?}", self.0) } else { f.write_str("null") }
    }
}

fn put_all<const SIZE: usize, T: std::fmt::Display>(tensor: &Tensor, out: &mut String, read: impl Fn([u8; SIZE]) -> T) {
    out.reserve(tensor.shape().count().saturating_mul(4));
    let (elements, _) = tensor.data().as_chunks::<SIZE>();
    for (at, element) in elements.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        // Writing into a string cannot fail.
        let _ = write!(out, "{}", read(*element));
    }
}

fn put_texts(tensor: &Tensor, text: Text, out: &mut String) -> Result<(), String> {
    for (at, element) in tensor.byte_elements().iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        if text == Text::Base64 {
            let _ = write!(out, "\"{}\"", STANDARD.encode(element));
            continue;
        }
        let text = std::str::from_utf8(element)
            .map_err(|_| format!("element {at} is no text in UTF-8; ask for it with `binary_data`"))?;
        out.push_str(&serde_json::Value::from(text).to_string());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn read_text(datatype: Datatype, shape: &[i64], data: &str) -> Result<Tensor, String> {
        let raw: &RawValue = serde_json::from_str(data).unwrap();
        read(datatype, Shape::new(shape.to_vec()).unwrap(), Text::Plain, raw)
    }

    fn refusal(datatype: Datatype, shape: &[i64], data: &str) -> String {
        read_text(datatype, shape, data).unwrap_err()
    }

    fn written(tensor: &Tensor) -> String {
        let mut text = String::new();
        write(tensor, Text::Plain, &mut text).unwrap();
        text
    }

    /// Tensors of all datatypes whose floats are finite.
    fn tensors() -> impl Strategy<Value = Tensor> {
        let shapes = prop::collection::vec(0..4_i64, 0..4);
        let bytes = prop::collection::vec(any::<u8>(), 27 * 8);
        let texts = prop::collection::vec(".{0,8}", 27);
        (prop::sample::select(Datatype::ALL.to_vec()), shapes, bytes, texts).prop_map(
            |(datatype, shape, bytes, texts)| {
                let shape = Shape::new(shape).unwrap();
                let count = shape.count();
                let mut data: Vec<u8> = match datatype.size() {
                    Some(size) => bytes[..count * size].to_vec(),
                    None => Tensor::of_bytes(&texts[..count]).unwrap().data().to_vec(),
                };
                match datatype {
                    Datatype::Bool => data.iter_mut().for_each(|byte| *byte &= 1),
                    // An exponent of ones only is no number.
                    Datatype::Fp16 => data.chunks_mut(2).for_each(|element| element[1] &= !0x04),
                    Datatype::Bf16 => data.chunks_mut(2).for_each(|element| element[0] &= !0x80),
                    Datatype::Fp32 => data.chunks_mut(4).for_each(|element| element[2] &= !0x80),
                    Datatype::Fp64 => data.chunks_mut(8).for_each(|element| element[6] &= !0x10),
                    _ => {}
                }
                Tensor::new(datatype, shape, data.into()).unwrap()
            },
        )
    }

    /// The flat array of a tensor in arrays as its shape has them.
    fn nested(flat: &[serde_json::Value], dimensions: &[i64]) -> serde_json::Value {
        match dimensions {
            [] | [_] => flat.to_vec().into(),
            [first, rest @ ..] => {
                let size = rest.iter().product::<i64>() as usize;
                (0..*first as usize).map(|at| nested(&flat[at * size..(at + 1) * size], rest)).collect()
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(tensor in tensors()) {
            let text = written(&tensor);
            let again = read_text(tensor.datatype(), tensor.shape().dimensions(), &text).unwrap();
            prop_assert_eq!(&again, &tensor, "{}", text);
        }

        #[test]
        fn nested_arrays_are_read_as_flat_ones(tensor in tensors()) {
            // Through other numbers than ours: those that serde_json writes are the nearest, those that it reads not always.
            let text = written(&tensor);
            let flat: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
            let flat_text = serde_json::to_string(&flat).unwrap();
            let nested_text = nested(&flat, tensor.shape().dimensions()).to_string();
            let shape = tensor.shape().dimensions();
            let (flat, nested) = (read_text(tensor.datatype(), shape, &flat_text), read_text(tensor.datatype(), shape, &nested_text));
            prop_assert_eq!(flat.unwrap(), nested.unwrap(), "{}", nested_text);
        }

        #[test]
        fn any_json_is_elements_or_a_reason(
            text in r#"(\[|\]|,|1|-|0\.5|1e9|"a\\"|true|null|\{\}| ){0,24}"#,
            datatype in prop::sample::select(Datatype::ALL.to_vec()),
            shape in prop::collection::vec(0..3_i64, 0..4),
        ) {
            if serde_json::from_str::<&RawValue>(&text).is_ok()
                && let Ok(tensor) = read_text(datatype, &shape, &text)
            {
                prop_assert_eq!(tensor.shape().dimensions(), shape);
            }
        }
    }

    #[test]
    fn numbers_are_read_to_the_last_digit() {
        let tensor = read_text(Datatype::Fp64, &[2], "[7.2057594037927933e16, 0.1]").unwrap();
        assert_eq!(tensor.data()[..8], 0x4370_0000_0000_0000_u64.to_le_bytes());
        let tensor = read_text(Datatype::Uint64, &[1], "[18446744073709551615]").unwrap();
        assert_eq!(tensor.data()[..], [255; 8]);
    }

    #[test]
    fn floats_that_json_lacks_are_null() {
        let tensor = Tensor::of_f32(Shape::new(vec![3]).unwrap(), &[f32::NAN, f32::INFINITY, -1.5]).unwrap();
        assert_eq!(written(&tensor), "[null,null,-1.5]");
        let tensor = read_text(Datatype::Fp16, &[2], "[null, 1]").unwrap();
        assert!(f16::from_le_bytes([tensor.data()[0], tensor.data()[1]]).is_nan());
    }

    #[test]
    fn refusals_say_which_element() {
        use Datatype::{Bool, Bytes, Fp16, Fp32, Int8, Uint8};
        for (datatype, shape, data, said) in [
            (Int8, &[2][..], "[1, 128]", "element 1 is `128`, which no INT8 can be"),
            (Uint8, &[1], "[-1]", "`-1`, which no UINT8"),
            (Uint8, &[1], "[1.0]", "`1.0`, which no UINT8"),
            (Uint8, &[1], "[null]", "element 0 is `null`, and UINT8 are numbers"),
            (Fp32, &[1], "[1e39]", "`1e39`, which no FP32"),
            (Fp16, &[1], "[65520]", "`65520`, which no FP16"),
            (Fp32, &[1], "[\"1\"]", "and FP32 are numbers"),
            (Bool, &[1], "[2]", "a BOOL is true or false"),
            (Bytes, &[1], "[7]", "BYTES are strings"),
            (Fp32, &[1], "[{}]", "element 0 of its data is an object"),
            (Fp32, &[1], "{}", "must be an array"),
            (Fp32, &[1], "7", "must be an array"),
            (Fp32, &[1], "[[1]]", "nested, unlike its shape [1]"),
            (Fp32, &[2, 2], "[1, 2, 3]", "has 4 elements, and its data has 3"),
            (Fp32, &[2, 2], "[1, 2, 3, 4, 5]", "and its data has more"),
            (Fp32, &[2, 2], "[[1, 2, 3], [4]]", "an array of 3 in dimension 1"),
            (Fp32, &[2, 2], "[[1, 2]]", "an array of 1 in dimension 0"),
            (Fp32, &[2, 2], "[[1, 2], 3, 4]", "element 2 stands beside arrays"),
            (Fp32, &[2, 2], "[1, [2, 3], 4]", "nested, unlike"),
            (Fp32, &[1, 1, 2], "[[1, 2]]", "nested less deeply"),
            (Fp32, &[2, 2], "[[[1, 2], [3, 4]]]", "nested, unlike"),
        ] {
            let reason = refusal(datatype, shape, data);
            assert!(reason.contains(said), "{data}: {reason}");
        }
    }

    #[test]
    fn texts_have_escapes_and_may_be_base64() {
        let tensor = read_text(Datatype::Bytes, &[3], r#"["a\"b", "\u00e9", "é"]"#).unwrap();
        assert_eq!(tensor.byte_elements(), ["a\"b", "é", "é"]);
        let raw: &RawValue = serde_json::from_str(r#"["/9j/"]"#).unwrap();
        let tensor = read(Datatype::Bytes, Shape::new(vec![1]).unwrap(), Text::Base64, raw).unwrap();
        assert_eq!(tensor.byte_elements()[0][..], [0xff, 0xd8, 0xff]);
        let mut text = String::new();
        assert!(write(&tensor, Text::Plain, &mut text).unwrap_err().contains("binary_data"));
        text.clear();
        write(&tensor, Text::Base64, &mut text).unwrap();
        assert_eq!(text, r#"["/9j/"]"#);
    }

    #[test]
    fn deep_nesting_and_large_shapes_cost_nothing() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(refusal(Datatype::Fp32, &[1], &deep).contains("nested"));
        assert!(refusal(Datatype::Fp64, &[1 << 40], "[1]").contains("its data has 1"));
    }
}
