{{- define "infisical-gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Names of pods end in an ordinal, and a label has the name of a pod's revision. */}}
{{- define "infisical-gateway.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- $generated := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- default $generated .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "infisical-gateway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "infisical-gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "infisical-gateway.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "infisical-gateway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "infisical-gateway.serviceAccountName" -}}
{{- $default := ternary (include "infisical-gateway.fullname" .) "default" .Values.serviceAccount.create }}
{{- default $default .Values.serviceAccount.name }}
{{- end }}

{{- define "infisical-gateway.tokenSecret" -}}
{{- default (printf "%s-enrollment-token" (include "infisical-gateway.fullname" .)) .Values.gateway.enrollment.token.existingSecretRef }}
{{- end }}

{{/* How the credentials are kept: `existing` claim, `claims` of the StatefulSet, or `none`. */}}
{{- define "infisical-gateway.storage" -}}
{{- if not .Values.persistence.enabled }}none
{{- else if .Values.persistence.existingClaim }}existing
{{- else if eq .Values.gateway.enrollment.method "token" }}claims
{{- else }}none
{{- end }}
{{- end }}

{{/* Refuses values that contradict each other. */}}
{{- define "infisical-gateway.validate" -}}
{{- $gateway := .Values.gateway }}
{{- $method := $gateway.enrollment.method }}
{{- $replicas := int .Values.replicaCount }}
{{- if $method }}
{{- $_ := required "gateway.name is required with gateway.enrollment.method" $gateway.name }}
{{- $_ := required "gateway.domain is required with gateway.enrollment.method" $gateway.domain }}
{{- end }}
{{- if eq $method "token" }}
{{- $token := $gateway.enrollment.token }}
{{- if not (or $token.value $token.existingSecretRef) }}
{{- fail "gateway.enrollment.token.existingSecretRef or .value is required with gateway.enrollment.method=token" }}
{{- end }}
{{- if and $token.value $token.existingSecretRef }}
{{- fail "only one of gateway.enrollment.token.existingSecretRef and .value may be set" }}
{{- end }}
{{- if not .Values.persistence.enabled }}
{{- fail "persistence.enabled must be true with gateway.enrollment.method=token: the token works once, and what it is exchanged for must be kept" }}
{{- end }}
{{- else if $method }}
{{- $settings := index $gateway.enrollment $method }}
{{- $_ := required (printf "gateway.enrollment.%s.gatewayId is required with gateway.enrollment.method=%s" $method $method) $settings.gatewayId }}
{{- end }}
{{- if and (eq $method "kubernetes") (not .Values.serviceAccount.automount) (not $gateway.enrollment.kubernetes.serviceAccountTokenPath) }}
{{- fail "gateway.enrollment.method=kubernetes needs the service account's token: serviceAccount.automount" }}
{{- end }}
{{- if gt $replicas 1 }}
{{- if ne $method "token" }}
{{- fail "replicaCount is more than 1, which only gateway.enrollment.method=token can have: an identity is one gateway; install the chart once for each gateway" }}
{{- end }}
{{- if $gateway.enrollment.token.value }}
{{- fail "several replicas need several tokens: gateway.enrollment.token.existingSecretRef" }}
{{- end }}
{{- if .Values.persistence.existingClaim }}
{{- fail "several replicas cannot share persistence.existingClaim" }}
{{- end }}
{{- end }}
{{- end }}
