//! Tensors as the protocol sees them: a datatype, a shape, and elements as little-endian bytes in row-major order.
//!
//! What is here is true of every tensor that exists: its bytes are as many as datatype and shape say. Reasons of refusals
//! are texts without a place; whoever reads a request adds the tensor's name.

pub mod json;
pub mod torch;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// Dimensions that a tensor may have; libtorch takes 64, no network has more than a few.
pub const MAX_RANK: usize = 32;

/// Bytes of the length before each element of [`Datatype::Bytes`].
const PREFIX: usize = 4;

/// What an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Datatype {
    /// One byte, 0 or 1.
    Bool,
    /// 8 bits without a sign.
    Uint8,
    /// 16 bits without a sign.
    Uint16,
    /// 32 bits without a sign.
    Uint32,
    /// 64 bits without a sign.
    Uint64,
    /// 8 bits with a sign.
    Int8,
    /// 16 bits with a sign.
    Int16,
    /// 32 bits with a sign.
    Int32,
    /// 64 bits with a sign.
    Int64,
    /// IEEE 754 half precision.
    Fp16,
    /// The upper half of an [`Datatype::Fp32`].
    Bf16,
    /// IEEE 754 single precision.
    Fp32,
    /// IEEE 754 double precision.
    Fp64,
    /// Any bytes, text for the most part. In binary form each element is preceded by its length in 4 bytes.
    Bytes,
}

/// The extent of a tensor in each dimension. None at all is one element.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    /// None is negative, and their product is a number of bytes that a machine can count.
    dimensions: Vec<i64>,
}

/// Elements of one kind. Clones share their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    datatype: Datatype,
    shape: Shape,
    data: Bytes,
}

/// A tensor and what the model calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedTensor {
    /// As in the model's metadata.
    pub name: String,
    /// The elements.
    pub tensor: Tensor,
}

impl Datatype {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// The datatype of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn parse(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|datatype| datatype.name() == name);
        known.ok_or_else(|| {
            let all = Self::ALL.map(Self::name).join(", ");
            format!("`{}` is no datatype; there are {all}", shortened(name))
        })
    }

    /// Bytes of an element; none where they vary.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

impl std::fmt::Display for Datatype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Shape {
    /// Checks the dimensions.
    ///
    /// # Errors
    /// There are too many, one is negative, or together they are more than can be counted, also where one is 0.
    pub fn new(dimensions: Vec<i64>) -> Result<Self, String> {
        if dimensions.len() > MAX_RANK {
            return Err(format!("its shape has {} dimensions, more than {MAX_RANK}", dimensions.len()));
        }
        if let Some(negative) = dimensions.iter().find(|dimension| **dimension < 0) {
            return Err(format!("its shape {dimensions:?} has the negative dimension {negative}"));
        }
        // Strides are counted as if no dimension were 0, in bytes of the largest datatype.
        let product = dimensions.iter().try_fold(8_i64, |product, dimension| product.checked_mul((*dimension).max(1)));
        if product.is_none() {
            return Err(format!("its shape {dimensions:?} has more elements than can be counted"));
        }
        Ok(Self { dimensions })
    }

    /// The dimensions.
    pub fn dimensions(&self) -> &[i64] {
        &self.dimensions
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        let count = self.dimensions.iter().product::<i64>();
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// The extent in the first dimension; none without dimensions.
    pub fn rows(&self) -> Option<i64> {
        self.dimensions.first().copied()
    }

    /// The same with another extent in the first dimension.
    ///
    /// # Errors
    /// As [`Shape::new`].
    pub fn with_rows(&self, rows: i64) -> Result<Self, String> {
        let mut dimensions = self.dimensions.clone();
        if let Some(first) = dimensions.first_mut() {
            *first = rows;
        }
        Self::new(dimensions)
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.dimensions)
    }
}

impl Tensor {
    /// A tensor of these bytes, which are in the binary form of the datatype.
    ///
    /// # Errors
    /// They are not as many as datatype and shape say, or no such elements.
    pub fn new(datatype: Datatype, shape: Shape, data: Bytes) -> Result<Self, String> {
        let count = shape.count();
        match datatype.size() {
            Some(size) if count.checked_mul(size) != Some(data.len()) => {
                let expected = count.saturating_mul(size);
                return Err(format!(
                    "{datatype} of shape {shape} is {expected} bytes, and there are {} bytes",
                    data.len()
                ));
            }
            Some(_) => {}
            None => check_prefixes(&data, count)?,
        }
        if datatype == Datatype::Bool
            && let Some((at, byte)) = data.iter().enumerate().find(|(_, byte)| **byte > 1)
        {
            return Err(format!("element {at} is the byte {byte}, and a BOOL is 0 or 1"));
        }
        Ok(Self { datatype, shape, data })
    }

    /// A tensor of [`Datatype::Bytes`] with one dimension.
    ///
    /// # Errors
    /// An element is larger than a length of 4 bytes can say.
    pub fn of_bytes<T: AsRef<[u8]>>(elements: &[T]) -> Result<Self, String> {
        let shape = Shape::new(vec![elements.len() as i64])?;
        let mut data = BytesMut::new();
        for element in elements {
            put_element(&mut data, element.as_ref())?;
        }
        Ok(Self { datatype: Datatype::Bytes, shape, data: data.freeze() })
    }

    /// A tensor of [`Datatype::Fp32`].
    ///
    /// # Errors
    /// The shape has another number of elements.
    pub fn of_f32(shape: Shape, elements: &[f32]) -> Result<Self, String> {
        let data: Vec<u8> = elements.iter().flat_map(|element| element.to_le_bytes()).collect();
        Self::new(Datatype::Fp32, shape, data.into())
    }

    /// A tensor of [`Datatype::Int64`].
    ///
    /// # Errors
    /// The shape has another number of elements.
    pub fn of_i64(shape: Shape, elements: &[i64]) -> Result<Self, String> {
        let data: Vec<u8> = elements.iter().flat_map(|element| element.to_le_bytes()).collect();
        Self::new(Datatype::Int64, shape, data.into())
    }

    /// What an element is.
    pub fn datatype(&self) -> Datatype {
        self.datatype
    }

    /// Its extent.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// All elements in binary form.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The elements of a tensor of [`Datatype::Bytes`], without their lengths; they share its bytes.
    pub fn byte_elements(&self) -> Vec<Bytes> {
        let mut elements = Vec::new();
        let mut at = 0;
        // The lengths were checked when the tensor was made.
        while self.datatype == Datatype::Bytes
            && let Some(length) = length_at(&self.data, at)
        {
            let from = at + PREFIX;
            at = (from + length).min(self.data.len());
            elements.push(self.data.slice(from..at));
        }
        elements
    }
}

/// Appends an element of [`Datatype::Bytes`].
///
/// # Errors
/// It is larger than a length of 4 bytes can say.
pub(crate) fn put_element(data: &mut BytesMut, element: &[u8]) -> Result<(), String> {
    let length = u32::try_from(element.len())
        .map_err(|_| format!("an element has {} bytes, more than BYTES can have", element.len()))?;
    data.reserve(PREFIX + element.len());
    data.put_u32_le(length);
    data.put_slice(element);
    Ok(())
}

/// Checks that these are `count` elements, each after its length.
fn check_prefixes(data: &[u8], count: usize) -> Result<(), String> {
    let mut at = 0;
    let mut found = 0;
    while at < data.len() {
        let Some(length) = length_at(data, at) else {
            return Err(format!("the length of element {found} of BYTES is cut off at byte {}", data.len()));
        };
        at += PREFIX;
        if length > data.len() - at {
            return Err(format!(
                "element {found} of BYTES is said to have {length} bytes, and {} bytes are left",
                data.len() - at
            ));
        }
        at += length;
        found += 1;
    }
    if found != count {
        return Err(format!("its shape has {count} elements, and there are {found}"));
    }
    Ok(())
}

fn length_at(data: &[u8], at: usize) -> Option<usize> {
    let prefix = data.get(at..at.checked_add(PREFIX)?)?;
    let length = u32::from_le_bytes(prefix.try_into().ok()?);
    usize::try_from(length).ok()
}

/// The beginning of a text that others wrote, for messages.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shape(dimensions: &[i64]) -> Shape {
        Shape::new(dimensions.to_vec()).unwrap()
    }

    #[test]
    fn datatypes_have_the_names_of_the_protocol() {
        for datatype in Datatype::ALL {
            assert_eq!(Datatype::parse(datatype.name()), Ok(datatype));
            assert_eq!(serde_json::to_string(&datatype).unwrap(), format!("\"{datatype}\""));
        }
        assert!(Datatype::parse("float32").unwrap_err().contains("`float32` is no datatype"));
        assert!(Datatype::parse(&"é".repeat(1000)).unwrap_err().len() < 400);
    }

    #[test]
    fn shapes_that_cannot_be_are_refused() {
        assert!(Shape::new(vec![2, -1]).unwrap_err().contains("negative dimension -1"));
        for dimensions in [vec![i64::MAX], vec![1 << 31, 1 << 31], vec![0, i64::MAX, 2], vec![1 << 62, 0]] {
            assert!(Shape::new(dimensions.clone()).unwrap_err().contains("more elements than"), "{dimensions:?}");
        }
        assert!(Shape::new(vec![1; MAX_RANK + 1]).unwrap_err().contains("33 dimensions"));
        assert_eq!(shape(&[]).count(), 1);
        assert_eq!(shape(&[3, 0, 7]).count(), 0);
        assert_eq!(shape(&[3, 4]).with_rows(5).unwrap(), shape(&[5, 4]));
    }

    #[test]
    fn bytes_are_as_many_as_the_shape_says() {
        let error = Tensor::new(Datatype::Fp32, shape(&[2, 2]), Bytes::from_static(&[0; 15])).unwrap_err();
        assert!(error.contains("16 bytes, and there are 15 bytes"), "{error}");
        assert!(Tensor::new(Datatype::Fp16, shape(&[2, 2]), Bytes::from_static(&[0; 8])).is_ok());
        let error = Tensor::new(Datatype::Bool, shape(&[3]), Bytes::from_static(&[0, 1, 2])).unwrap_err();
        assert!(error.contains("element 2 is the byte 2"), "{error}");
    }

    #[test]
    fn lying_lengths_of_elements_are_found() {
        let read = |data: &'static [u8], count| Tensor::new(Datatype::Bytes, shape(&[count]), Bytes::from_static(data));
        assert_eq!(read(b"\x02\0\0\0hi\0\0\0\0", 2).unwrap().byte_elements(), ["hi", ""]);
        for (data, count, said) in [
            (&b"\x03\0\0\0hi"[..], 1, "said to have 3 bytes, and 2 bytes are left"),
            (b"\xff\xff\xff\xffhi", 1, "said to have 4294967295 bytes"),
            (b"\x02\0\0\0hi\x01\0", 2, "the length of element 1 of BYTES is cut off"),
            (b"\x02\0\0\0hi", 2, "2 elements, and there are 1"),
            (b"\x02\0\0\0hi\0\0\0\0", 1, "1 elements, and there are 2"),
        ] {
            let error = read(data, count).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(Tensor::of_bytes(&["a", "é"]).unwrap().byte_elements(), ["a", "é"]);
    }
}
