//! Tensors of the protocol as libtorch's, and back. Only the threads of a model call this.

use tch::{Device, Kind};

use super::{Datatype, Shape, Tensor};

/// libtorch's kind of a datatype.
///
/// # Errors
/// The Rust face of libtorch has none.
pub fn kind(datatype: Datatype) -> Result<Kind, String> {
    match datatype {
        Datatype::Bool => Ok(Kind::Bool),
        Datatype::Uint8 => Ok(Kind::Uint8),
        Datatype::Int8 => Ok(Kind::Int8),
        Datatype::Int16 => Ok(Kind::Int16),
        Datatype::Int32 => Ok(Kind::Int),
        Datatype::Int64 => Ok(Kind::Int64),
        Datatype::Fp16 => Ok(Kind::Half),
        Datatype::Bf16 => Ok(Kind::BFloat16),
        Datatype::Fp32 => Ok(Kind::Float),
        Datatype::Fp64 => Ok(Kind::Double),
        Datatype::Uint16 | Datatype::Uint32 | Datatype::Uint64 | Datatype::Bytes => {
            Err(format!("TorchScript models take no {datatype}"))
        }
    }
}

/// Copies elements of these rows one after the other into one tensor on `device`, as a batch of them all.
///
/// # Errors
/// libtorch's, and datatypes that it lacks. The tensors must have one datatype, and one shape but for the first dimension.
pub fn concatenated(tensors: &[&Tensor], device: Device) -> Result<tch::Tensor, String> {
    let Some(first) = tensors.first() else { return Err("there are no tensors to join".to_owned()) };
    let joined;
    let (shape, data) = match tensors {
        [one] => (one.shape().clone(), one.data().as_ref()),
        many => {
            let rows = many.iter().map(|tensor| tensor.shape().rows().unwrap_or(1)).sum();
            joined = many.iter().map(|tensor| tensor.data().as_ref()).collect::<Vec<_>>().concat();
            (first.shape().with_rows(rows)?, joined.as_slice())
        }
    };
    // libtorch reads as many bytes as the shape says, without asking how many there are.
    if first.datatype().size().and_then(|size| size.checked_mul(shape.count())) != Some(data.len()) {
        return Err(format!("tensors of other shapes than {} cannot be joined", first.shape()));
    }
    let kind = kind(first.datatype())?;
    let tensor = tch::Tensor::f_from_data_size(data, shape.dimensions(), kind).map_err(|error| error.to_string())?;
    tensor.f_to_device(device).map_err(|error| error.to_string())
}

/// Copies a tensor of libtorch.
///
/// # Errors
/// libtorch's, and kinds that the protocol lacks: complex and quantised numbers.
pub fn read(tensor: &tch::Tensor) -> Result<Tensor, String> {
    let datatype = match tensor.f_kind().map_err(|error| error.to_string())? {
        Kind::Bool => Datatype::Bool,
        Kind::Uint8 => Datatype::Uint8,
        Kind::Int8 => Datatype::Int8,
        Kind::Int16 => Datatype::Int16,
        Kind::Int => Datatype::Int32,
        Kind::Int64 => Datatype::Int64,
        Kind::Half => Datatype::Fp16,
        Kind::BFloat16 => Datatype::Bf16,
        Kind::Float => Datatype::Fp32,
        Kind::Double => Datatype::Fp64,
        other => return Err(format!("the model gives a tensor of {other:?}, which the protocol has no datatype for")),
    };
    let shape = Shape::new(tensor.size())?;
    let size = datatype.size().unwrap_or_default();
    let mut data = vec![0; shape.count().saturating_mul(size)];
    let copied = tensor.f_to_device(Device::Cpu).and_then(|tensor| tensor.f_contiguous());
    copied.and_then(|tensor| tensor.f_copy_data_u8(&mut data, shape.count())).map_err(|error| error.to_string())?;
    Tensor::new(datatype, shape, data.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_libtorch_was_given_it_gives_back(
            datatype in prop::sample::select(Datatype::ALL.to_vec()),
            dimensions in prop::collection::vec(0..4_i64, 0..4),
            bytes in prop::collection::vec(any::<u8>(), 27 * 8),
        ) {
            let Ok(kind) = kind(datatype) else { return Ok(()) };
            let shape = Shape::new(dimensions.clone()).unwrap();
            let mut data = bytes[..shape.count() * datatype.size().unwrap()].to_vec();
            if datatype == Datatype::Bool {
                data.iter_mut().for_each(|byte| *byte &= 1);
            }
            let tensor = Tensor::new(datatype, shape, data.into()).unwrap();
            let there = concatenated(&[&tensor], Device::Cpu).unwrap();
            prop_assert_eq!(there.kind(), kind);
            prop_assert_eq!(there.size(), dimensions);
            prop_assert_eq!(read(&there).unwrap(), tensor);
        }
    }

    #[test]
    fn rows_are_joined_and_strides_are_followed() {
        let tensor = |rows, values: &[f32]| Tensor::of_f32(Shape::new(vec![rows, 2]).unwrap(), values).unwrap();
        let (a, b) = (tensor(1, &[1.0, 2.0]), tensor(2, &[3.0, 4.0, 5.0, 6.0]));
        let joined = concatenated(&[&a, &b], Device::Cpu).unwrap();
        assert_eq!(read(&joined).unwrap(), tensor(3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let turned = read(&joined.tr()).unwrap();
        let expected = Tensor::of_f32(Shape::new(vec![2, 3]).unwrap(), &[1.0, 3.0, 5.0, 2.0, 4.0, 6.0]).unwrap();
        assert_eq!(turned, expected);
        let other = Tensor::of_f32(Shape::new(vec![1, 3]).unwrap(), &[1.0, 2.0, 3.0]).unwrap();
        assert!(concatenated(&[&a, &other], Device::Cpu).unwrap_err().contains("cannot be joined"));
    }
}
