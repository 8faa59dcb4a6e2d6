# Who may do what: the cluster, its nodes, and each part of Safari by the service account that it runs as.
data "aws_iam_policy_document" "assumed_by" {
  for_each = { cluster = "eks.amazonaws.com", node = "ec2.amazonaws.com" }

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = [each.value]
    }
  }
}

resource "aws_iam_role" "cluster" {
  name               = "${var.name}-cluster"
  assume_role_policy = data.aws_iam_policy_document.assumed_by["cluster"].json
}

resource "aws_iam_role_policy_attachment" "cluster" {
  role       = aws_iam_role.cluster.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"
}

resource "aws_iam_role" "node" {
  name               = "${var.name}-node"
  assume_role_policy = data.aws_iam_policy_document.assumed_by["node"].json
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = toset([
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy",
    "AmazonEC2ContainerRegistryPullOnly",
  ])
  role       = aws_iam_role.node.name
  policy_arn = "arn:aws:iam::aws:policy/${each.key}"
}

data "tls_certificate" "issuer" {
  url = aws_eks_cluster.main.identity[0].oidc[0].issuer
}

resource "aws_iam_openid_connect_provider" "cluster" {
  url             = aws_eks_cluster.main.identity[0].oidc[0].issuer
  client_id_list  = ["sts.amazonaws.com"]
  thumbprint_list = [data.tls_certificate.issuer.certificates[0].sha1_fingerprint]
}

locals {
  issuer = trimprefix(aws_eks_cluster.main.identity[0].oidc[0].issuer, "https://")

  # Service account in the namespace `safari`, and what it may read and write: whole buckets.
  parts = {
    detection = { read = ["models"], write = ["people"] }
    scheduler = { read = [], write = ["logs"] }
    api       = { read = [], write = ["logs"] }
    worker    = { read = ["models"], write = ["lake", "logs"] }
    registry  = { read = [], write = ["models"] }
    backup    = { read = ["lake", "models", "people"], write = ["backups"] }
    drill     = { read = ["backups"], write = [] }
    restore   = { read = ["backups"], write = ["lake", "models", "people"] }
  }
}

data "aws_iam_policy_document" "account" {
  for_each = merge(
    { for part in keys(local.parts) : part => "system:serviceaccount:safari:${part}" },
    { files = "system:serviceaccount:kube-system:efs-csi-controller-sa" },
  )

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.cluster.arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = [each.value]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "part" {
  for_each           = local.parts
  name               = "${var.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.account[each.key].json
}

data "aws_iam_policy_document" "part" {
  for_each = local.parts

  statement {
    actions = ["s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetBucketLocation"]
    resources = concat(
      [for bucket in concat(each.value.read, each.value.write) : aws_s3_bucket.main[bucket].arn],
      each.key == "worker" ? [for bucket in var.media_buckets : "arn:aws:s3:::${bucket}"] : [],
    )
  }

  statement {
    actions = ["s3:GetObject"]
    resources = concat(
      [for bucket in concat(each.value.read, each.value.write) : "${aws_s3_bucket.main[bucket].arn}/*"],
      each.key == "worker" ? [for bucket in var.media_buckets : "arn:aws:s3:::${bucket}/*"] : [],
    )
  }

  dynamic "statement" {
    for_each = length(each.value.write) > 0 ? [each.value.write] : []

    content {
      actions   = ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
      resources = [for bucket in statement.value : "${aws_s3_bucket.main[bucket].arn}/*"]
    }
  }
}

resource "aws_iam_role_policy" "part" {
  for_each = local.parts
  name     = "objects"
  role     = aws_iam_role.part[each.key].id
  policy   = data.aws_iam_policy_document.part[each.key].json
}

resource "aws_iam_role" "files" {
  name               = "${var.name}-files"
  assume_role_policy = data.aws_iam_policy_document.account["files"].json
}

resource "aws_iam_role_policy_attachment" "files" {
  role       = aws_iam_role.files.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonEFSCSIDriverPolicy"
}
