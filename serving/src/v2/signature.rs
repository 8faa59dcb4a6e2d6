//! What goes into a TorchScript file and what comes out: the signature of an MLflow model folder, or a small
//! `signature.yaml` beside the file.
//!
//! MLflow's form is that of `mlflow.models.ModelSignature` with tensors. Ours:
//! ```yaml
//! inputs: [{name: image, datatype: FP32, shape: [-1, 3, 224, 224]}]
//! outputs: [{name: scores, datatype: FP32, shape: [-1, 1000]}]
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model_registry::folder::{MLMODEL_FILE, ModelFolder};
use serde::Deserialize;
use serde_json::Value;

use super::backend::TensorMetadata;
use super::tensor::{Datatype, MAX_RANK};
use crate::Error;
use crate::v2::Result;

/// The file beside a TorchScript file that says what goes in and comes out.
pub const SIGNATURE_FILE: &str = "signature.yaml";

/// A TorchScript file with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The TorchScript file.
    pub file: PathBuf,
    /// What goes in, in the order of the arguments of `forward`.
    pub inputs: Vec<TensorMetadata>,
    /// What comes out, in the order of the tuple that `forward` gives; one tensor for one.
    pub outputs: Vec<TensorMetadata>,
}

impl Signature {
    /// Reads the signature of a model: an MLflow folder with a scripted PyTorch model, a folder with one `.pt` file and
    /// [`SIGNATURE_FILE`], or a `.pt` file with `<its name>.signature.yaml` or [`SIGNATURE_FILE`] beside it.
    ///
    /// # Errors
    /// [`Error::Setup`] with the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self> {
        let signature = if path.join(MLMODEL_FILE).is_file() {
            of_mlflow(path)?
        } else if path.is_dir() {
            of_yaml(only_file(path)?)?
        } else {
            of_yaml(path.to_owned())?
        };
        signature.check(path)?;
        Ok(signature)
    }

    fn check(&self, path: &Path) -> Result<()> {
        for (what, tensors) in [("inputs", &self.inputs), ("outputs", &self.outputs)] {
            if tensors.is_empty() {
                return Err(unusable(path, format!("its signature has no {what}")));
            }
            for (at, tensor) in tensors.iter().enumerate() {
                let name = &tensor.name;
                if name.is_empty() || tensors[..at].iter().any(|earlier| earlier.name == *name) {
                    return Err(unusable(path, format!("its signature has {what} with the same or no name: `{name}`")));
                }
                if tensor.shape.len() > MAX_RANK || tensor.shape.iter().any(|dimension| *dimension < -1) {
                    return Err(unusable(path, format!("`{name}` cannot have the shape {:?}", tensor.shape)));
                }
                super::tensor::torch::kind(tensor.datatype)
                    .map_err(|reason| unusable(path, format!("`{name}` is {}: {reason}", tensor.datatype)))?;
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Yaml {
    inputs: Vec<YamlTensor>,
    outputs: Vec<YamlTensor>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct YamlTensor {
    name: String,
    datatype: Datatype,
    shape: Vec<i64>,
}

fn of_yaml(file: PathBuf) -> Result<Signature> {
    if !file.is_file() {
        return Err(unusable(&file, "there is no such file".to_owned()));
    }
    let named = file.with_extension("signature.yaml");
    let beside = file.with_file_name(SIGNATURE_FILE);
    let Some(path) = [named, beside].into_iter().find(|path| path.is_file()) else {
        return Err(unusable(&file, format!("there is no {SIGNATURE_FILE} beside it that says what goes in and out")));
    };
    let text = std::fs::read_to_string(&path).map_err(|error| unusable(&path, error.to_string()))?;
    let yaml: Yaml = serde_saphyr::from_str(&text).map_err(|error| unusable(&path, error.to_string()))?;
    let tensors = |all: Vec<YamlTensor>| {
        all.into_iter().map(|YamlTensor { name, datatype, shape }| TensorMetadata { name, datatype, shape }).collect()
    };
    Ok(Signature { file, inputs: tensors(yaml.inputs), outputs: tensors(yaml.outputs) })
}

fn of_mlflow(folder: &Path) -> Result<Signature> {
    let model = ModelFolder::open(folder).map_err(|error| Error::Setup(error.to_string()))?;
    let description = model.description();
    let Some(signature) = &description.signature else {
        return Err(unusable(folder, format!("{MLMODEL_FILE} has no signature; log the model with one")));
    };
    let read = |what: &str, text: &Option<String>| {
        let text = text.as_deref().ok_or_else(|| unusable(folder, format!("its signature says nothing of {what}")))?;
        tensors(what, text).map_err(|reason| unusable(folder, format!("its signature's {what}: {reason}")))
    };
    Ok(Signature {
        file: torchscript_file(folder, &description.flavors)?,
        inputs: read("inputs", &signature.inputs)?,
        outputs: read("outputs", &signature.outputs)?,
    })
}

/// MLflow saves scripted models as `data/model.pth`; others keep a `.pt` file in the folder.
fn torchscript_file(folder: &Path, flavors: &BTreeMap<String, Value>) -> Result<PathBuf> {
    let data = flavors.get("pytorch").and_then(|flavor| flavor.get("model_data")).and_then(Value::as_str);
    let Some(data) = data else { return only_file(folder) };
    // A folder from elsewhere must not lead out of itself.
    let inside = Path::new(data).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !inside {
        return Err(unusable(folder, format!("{MLMODEL_FILE} names `{data}`, which lies outside the folder")));
    }
    let file = folder.join(data).join("model.pth");
    if file.is_file() { Ok(file) } else { only_file(&folder.join(data)) }
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).map_err(|error| unusable(folder, error.to_string()))?;
    let is_model = |path: &PathBuf| path.extension().is_some_and(|end| end == "pt" || end == "pth") && path.is_file();
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_model).collect();
    match (files.pop(), files.pop()) {
        (Some(file), None) => Ok(file),
        (None, _) => Err(unusable(folder, "there is no TorchScript file (.pt) in it".to_owned())),
        _ => Err(unusable(folder, "there are several TorchScript files in it; name one of them".to_owned())),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MlflowTensor {
    r#type: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    tensor_spec: Option<MlflowSpec>,
}

#[derive(Deserialize)]
struct MlflowSpec {
    dtype: String,
    shape: Vec<i64>,
}

/// Tensors of one side of an MLflow signature; those without a name are called as MLServer does.
fn tensors(what: &str, text: &str) -> Result<Vec<TensorMetadata>, String> {
    let all: Vec<MlflowTensor> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let prefix = what.trim_end_matches('s');
    let tensor = |(at, tensor): (usize, MlflowTensor)| {
        let name = tensor.name.unwrap_or_else(|| format!("{prefix}-{at}"));
        let Some(spec) = tensor.tensor_spec else {
            return Err(format!("`{name}` is a column of type {}, and TorchScript takes tensors", tensor.r#type));
        };
        let datatype = numpy_datatype(&spec.dtype)
            .ok_or_else(|| format!("`{name}` has the dtype {}, which TorchScript has not", spec.dtype))?;
        Ok(TensorMetadata { name, datatype, shape: spec.shape })
    };
    all.into_iter().enumerate().map(tensor).collect()
}

/// NumPy's names.
fn numpy_datatype(name: &str) -> Option<Datatype> {
    Some(match name {
        "bool" => Datatype::Bool,
        "uint8" => Datatype::Uint8,
        "uint16" => Datatype::Uint16,
        "uint32" => Datatype::Uint32,
        "uint64" => Datatype::Uint64,
        "int8" => Datatype::Int8,
        "int16" => Datatype::Int16,
        "int32" => Datatype::Int32,
        "int64" => Datatype::Int64,
        "float16" => Datatype::Fp16,
        "float32" => Datatype::Fp32,
        "float64" => Datatype::Fp64,
        _ => return None,
    })
}

fn unusable(path: &Path, reason: String) -> Error {
    Error::Setup(format!("the model at {} cannot be served: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    fn tensor(name: &str, datatype: Datatype, shape: &[i64]) -> TensorMetadata {
        TensorMetadata { name: name.to_owned(), datatype, shape: shape.to_vec() }
    }

    #[test]
    fn an_mlflow_folder_says_what_goes_in_and_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        fs::write(folder.path().join("data/model.pth"), "").unwrap();
        let inputs = r#"[{"type":"tensor","name":"x","tensor-spec":{"dtype":"float32","shape":[-1,3]}}]"#;
        let outputs = r#"[{"type":"tensor","tensor-spec":{"dtype":"int64","shape":[-1]}}]"#;
        let describe = |inputs: &str| {
            let text = serde_json::json!({
                "flavors": {"pytorch": {"model_data": "data"}},
                "signature": {"inputs": inputs, "outputs": outputs, "params": null},
            });
            fs::write(folder.path().join("MLmodel"), text.to_string()).unwrap();
        };
        describe(inputs);
        let read = Signature::read(folder.path()).unwrap();
        assert_eq!(read.file, folder.path().join("data/model.pth"));
        assert_eq!(read.inputs, [tensor("x", Datatype::Fp32, &[-1, 3])]);
        assert_eq!(read.outputs, [tensor("output-0", Datatype::Int64, &[-1])]);

        for (inputs, said) in [
            (r#"[{"type":"double","name":"x","required":true}]"#, "`x` is a column of type double"),
            (r#"[{"type":"tensor","name":"x","tensor-spec":{"dtype":"object","shape":[-1]}}]"#, "the dtype object"),
            (r#"[{"type":"tensor","name":"x","tensor-spec":{"dtype":"uint16","shape":[-1]}}]"#, "take no UINT16"),
            (r#"[{"type":"tensor","name":"x","tensor-spec":{"dtype":"int8","shape":[-2]}}]"#, "the shape [-2]"),
            ("[]", "has no inputs"),
            ("{", "expected a sequence"),
        ] {
            describe(inputs);
            let error = Signature::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(said), "{inputs}: {error}");
        }
    }

    #[test]
    fn a_file_has_its_signature_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("net.pt");
        fs::write(&file, "").unwrap();
        assert!(Signature::read(&file).unwrap_err().to_string().contains("no signature.yaml beside it"));
        let yaml = |name: &str| {
            format!(
                "inputs: [{{name: {name}, datatype: FP16, shape: [-1, 2]}}]\noutputs: [{{name: y, datatype: BOOL, shape: []}}]\n"
            )
        };
        fs::write(folder.path().join(SIGNATURE_FILE), yaml("a")).unwrap();
        assert_eq!(Signature::read(&file).unwrap().inputs, [tensor("a", Datatype::Fp16, &[-1, 2])]);
        assert_eq!(Signature::read(folder.path()).unwrap(), Signature::read(&file).unwrap());
        fs::write(folder.path().join("net.signature.yaml"), yaml("b")).unwrap();
        assert_eq!(Signature::read(&file).unwrap().inputs[0].name, "b");
        fs::write(folder.path().join("other.pt"), "").unwrap();
        assert!(Signature::read(folder.path()).unwrap_err().to_string().contains("several TorchScript files"));
    }

    #[test]
    fn a_folder_does_not_lead_out_of_itself() {
        let folder = tempfile::tempdir().unwrap();
        let text = serde_json::json!({
            "flavors": {"pytorch": {"model_data": "../elsewhere"}},
            "signature": {"inputs": "[]", "outputs": "[]"},
        });
        fs::write(folder.path().join("MLmodel"), text.to_string()).unwrap();
        assert!(Signature::read(folder.path()).unwrap_err().to_string().contains("outside the folder"));
    }
}
