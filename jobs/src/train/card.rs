//! The card of a trained model.

use detector::train::TrainOptions;
use model_registry::folder::Lineage;

/// Says what the model is, what it was made of, and where its numbers are.
pub(super) fn write(name: &str, lineage: &Lineage, options: &TrainOptions) -> String {
    let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "not known".to_owned());
    let table = lineage.training_table_version.map_or_else(
        || "the labels came from no table".to_owned(),
        |version| format!("version {version} of the table `detections`"),
    );
    let rows = [
        ("training data", said(&lineage.training_data)),
        ("sha256 of names, contents and labels", said(&lineage.training_digest)),
        ("labels", table),
        ("made by", format!("run {} of the DAG {}", said(&lineage.dag_run), said(&lineage.dag))),
        ("commit of the code", said(&lineage.code_commit)),
        ("networks and vocabulary of", said(&lineage.base_model)),
        ("seed, epochs, folds", format!("{}, {}, {}", options.fit.seed, options.fit.epochs, options.fit.folds)),
        ("bursts made of each lone photograph", options.bursts.to_string()),
    ];
    let rows: String = rows.iter().map(|(what, value)| format!("| {what} | {value} |\n")).collect();
    format!(
        "# {name}\n\nFinds animals, persons and vehicles in photographs and names the animals. Its liquid network, which \
         judges bursts, was fitted to labelled bursts; the boxes network, the embedder and the vocabulary are those of \
         the base model, whose licences hold.\n\n| | |\n|---|---|\n{rows}\n`metrics.json` has how it did on bursts that \
         nothing was fitted to (`test`), and on each training burst by the network that was not fitted to it \
         (`cross_validated`), both with 95 % intervals. Percentages are not calibrated outside of the training data.\n"
    )
}
