# Buckets, and a file system for what workers share.
locals {
  # How long a version that was replaced or removed is kept, and when what is seldom read goes to a cheaper class.
  # People may ask that their photographs go: those are not kept for long.
  buckets = {
    lake    = { keep_days = 30, cold_days = null, expire_days = null }
    models  = { keep_days = 90, cold_days = null, expire_days = null }
    people  = { keep_days = 7, cold_days = null, expire_days = null }
    logs    = { keep_days = 1, cold_days = null, expire_days = 400 }
    backups = { keep_days = 35, cold_days = 30, expire_days = null }
  }
}

resource "aws_s3_bucket" "main" {
  for_each = local.buckets
  bucket   = "${var.name}-${each.key}"

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_versioning" "main" {
  for_each = aws_s3_bucket.main
  bucket   = each.value.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "main" {
  for_each = aws_s3_bucket.main
  bucket   = each.value.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "main" {
  for_each                = aws_s3_bucket.main
  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# Nothing is read or written without TLS.
resource "aws_s3_bucket_policy" "tls" {
  for_each   = aws_s3_bucket.main
  bucket     = each.value.id
  policy     = data.aws_iam_policy_document.tls[each.key].json
  depends_on = [aws_s3_bucket_public_access_block.main]
}

data "aws_iam_policy_document" "tls" {
  for_each = aws_s3_bucket.main

  statement {
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [each.value.arn, "${each.value.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "main" {
  for_each   = local.buckets
  bucket     = aws_s3_bucket.main[each.key].id
  depends_on = [aws_s3_bucket_versioning.main]

  rule {
    id     = "old-versions"
    status = "Enabled"
    filter {}

    noncurrent_version_expiration {
      noncurrent_days = each.value.keep_days
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }

    expiration {
      expired_object_delete_marker = each.value.expire_days == null ? true : null
      days                         = each.value.expire_days
    }
  }

  dynamic "rule" {
    for_each = each.value.cold_days == null ? [] : [each.value.cold_days]

    content {
      id     = "cold"
      status = "Enabled"
      filter {}

      transition {
        days          = rule.value
        storage_class = "STANDARD_IA"
      }
    }
  }
}

resource "aws_efs_file_system" "home" {
  encrypted       = true
  throughput_mode = "elastic"
  tags            = { Name = "${var.name}-home" }
}

resource "aws_security_group" "files" {
  name        = "${var.name}-files"
  description = "The file system, for the nodes"
  vpc_id      = aws_vpc.main.id

  ingress {
    description     = "NFS"
    protocol        = "tcp"
    from_port       = 2049
    to_port         = 2049
    security_groups = [aws_eks_cluster.main.vpc_config[0].cluster_security_group_id]
  }
}

resource "aws_efs_mount_target" "home" {
  for_each        = aws_subnet.private
  file_system_id  = aws_efs_file_system.home.id
  subnet_id       = each.value.id
  security_groups = [aws_security_group.files.id]
}
