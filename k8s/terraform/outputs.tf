output "cluster" {
  description = "For `aws eks update-kubeconfig --name`."
  value       = aws_eks_cluster.main.name
}

output "buckets" {
  description = "For overlays/production/settings.env."
  value       = { for key, bucket in aws_s3_bucket.main : key => bucket.id }
}

output "roles" {
  description = "For overlays/production/accounts.yaml."
  value       = { for part, role in aws_iam_role.part : part => role.arn }
}

output "database" {
  description = "Host and port of PostgreSQL, and the secret that holds its password."
  value = {
    endpoint = aws_db_instance.main.endpoint
    secret   = aws_db_instance.main.master_user_secret[0].secret_arn
  }
}

output "file_system" {
  description = "For the storage class `efs`."
  value       = aws_efs_file_system.home.id
}
