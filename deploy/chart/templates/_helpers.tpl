{{- define "vasp-enclave.name" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "vasp-enclave.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "vasp-enclave.labels" -}}
{{ include "vasp-enclave.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "vasp-enclave.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- /* How long the enclave takes to stop, in seconds, rounded up. */ -}}
{{- define "vasp-enclave.drain" -}}
{{- $delay := get .Values.settings "VEGA_SHUTDOWN_DELAY_MS" | default "6000" | int -}}
{{- $grace := get .Values.settings "VEGA_SHUTDOWN_GRACE_MS" | default "10000" | int -}}
{{- div (add $delay $grace 999) 1000 -}}
{{- end }}

{{- /* The same with the sidecar's containers, which stop before. */ -}}
{{- define "vasp-enclave.stop" -}}
{{- $before := eq .Values.shape "sidecar" | ternary (int .Values.sidecar.graceSeconds) 0 -}}
{{- add (include "vasp-enclave.drain" .) $before -}}
{{- end }}

{{- /* The settings that values of this chart make: name, and the value that makes it. */ -}}
{{- define "vasp-enclave.owned" -}}
VEGA_VASP_ID: vasp.id
VEGA_NETWORK_ID: vasp.networkId
VEGA_VASP_IVMS101_FILE: vasp.legalPerson
VEGA_PEER_TRUST: peerTrust
VEGA_API_ENDPOINT: central.endpoint
VEGA_ALLIANCE_ACCESS_KEY: central.accessKey
VEGA_CENTRAL_ALLOWLIST: central.allowlist
VEGA_CENTRAL_ALLOWLIST_FILE: central.allowlist
VEGA_ENCLAVE_PUBLIC_ENDPOINT: public.endpoint
VEGA_PUBLIC_LISTEN: public.service.port
VEGA_TRUSTED_PROXIES: public.trustedProxies
VEGA_PROXY_PROTOCOL: public.callerAddress
VEGA_FORWARDED_HEADER: public.forwardedHeader
VEGA_TLS_CERT_FILE: certificate.secretName
VEGA_TLS_KEY_FILE: certificate.secretName
VEGA_ACME_TERMS_AGREED: certificate.acme.termsAgreed
VEGA_ACME_CHALLENGE: certificate.acme.challenge
VEGA_ACME_HTTP_LISTEN: certificate.acme.challenge
VEGA_ACME_DIRECTORY: certificate.acme.directory
VEGA_ACME_EMAIL: certificate.acme.email
VEGA_VERIFICATION_API_PATH: backend.userUrl
VEGA_VERIFICATION_ACCOUNT_API_PATH: backend.accountUrl
VEGA_VERIFICATION_TRANSACTION_API_PATH: backend.transactionUrl
VEGA_VERIFICATION_CALLBACK_API_PATH: backend.callbackUrl
VEGA_DATABASE_FILE: persistence
VEGA_SERVER_HOST: shape
VEGA_SERVER_PORT: shape
VEGA_METRICS_LISTEN: podMonitor
{{- end }}

{{- /* The settings that are secrets: name, and the value that names their key in the Secret. */ -}}
{{- define "vasp-enclave.secret" -}}
VEGA_ENCRYPTION_KEY_BASE64: secrets.databaseKey
VEGA_ALLIANCE_SECRET_KEY: secrets.allianceKey
VEGA_VERIFICATION_AUTHORIZATION_TOKEN: secrets.backendToken
VEGA_SERVER_TOKEN: secrets.serverToken
VEGA_ACME_EAB_MAC_KEY: secrets.more
VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS: secrets.more
VEGA_DECRYPT_API_TOKEN: secrets.more
VEGA_REDIS_URL: secrets.more
{{- end }}

{{- /* The secrets in use: setting and key. */ -}}
{{- define "vasp-enclave.secretsInUse" -}}
{{- with .Values.secrets }}
VEGA_ENCRYPTION_KEY_BASE64: {{ .databaseKey | quote }}
VEGA_ALLIANCE_SECRET_KEY: {{ .allianceKey | quote }}
{{- with .backendToken }}
VEGA_VERIFICATION_AUTHORIZATION_TOKEN: {{ . | quote }}
{{- end }}
{{- with .serverToken }}
VEGA_SERVER_TOKEN: {{ . | quote }}
{{- end }}
{{- with .more }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "vasp-enclave.container" -}}
{{- $v := .Values -}}
name: enclave
image: {{ include "vasp-enclave.image" . | quote }}
imagePullPolicy: {{ $v.image.pullPolicy }}
{{- if eq $v.shape "sidecar" }}
restartPolicy: Always
{{- end }}
args: [run]
env:
  {{- if not (hasKey $v.settings "VEGA_ENCLAVE_MODE") }}
  - {name: VEGA_ENCLAVE_MODE, value: TR}
  {{- end }}
  - {name: VEGA_VASP_ID, value: {{ $v.vasp.id | quote }}}
  - {name: VEGA_NETWORK_ID, value: {{ $v.vasp.networkId | quote }}}
  {{- if $v.vasp.legalPerson }}
  - {name: VEGA_VASP_IVMS101_FILE, value: /etc/vega/ivms101.json}
  {{- end }}
  - {name: VEGA_PEER_TRUST, value: {{ $v.peerTrust | quote }}}
  - {name: VEGA_API_ENDPOINT, value: {{ $v.central.endpoint | quote }}}
  - {name: VEGA_ALLIANCE_ACCESS_KEY, value: {{ $v.central.accessKey | quote }}}
  - {name: VEGA_CENTRAL_ALLOWLIST_FILE, value: /etc/vega/allowlist}
  - {name: VEGA_ENCLAVE_PUBLIC_ENDPOINT, value: {{ $v.public.endpoint | quote }}}
  - {name: VEGA_PUBLIC_LISTEN, value: ":8443"}
  {{- if eq $v.public.callerAddress "proxyProtocol" }}
  - {name: VEGA_PROXY_PROTOCOL, value: require}
  {{- end }}
  {{- if eq $v.public.callerAddress "forwardedHeader" }}
  - {name: VEGA_FORWARDED_HEADER, value: {{ $v.public.forwardedHeader | quote }}}
  {{- end }}
  {{- if ne $v.public.callerAddress "kept" }}
  - {name: VEGA_TRUSTED_PROXIES, value: {{ join "," $v.public.trustedProxies | quote }}}
  {{- end }}
  {{- if $v.certificate.secretName }}
  - {name: VEGA_TLS_CERT_FILE, value: /run/secrets/tls/tls.crt}
  - {name: VEGA_TLS_KEY_FILE, value: /run/secrets/tls/tls.key}
  {{- else }}
  - {name: VEGA_ACME_TERMS_AGREED, value: "true"}
  - {name: VEGA_ACME_CHALLENGE, value: {{ $v.certificate.acme.challenge }}}
  {{- if eq $v.certificate.acme.challenge "http-01" }}
  - {name: VEGA_ACME_HTTP_LISTEN, value: ":8480"}
  {{- end }}
  {{- with $v.certificate.acme.directory }}
  - {name: VEGA_ACME_DIRECTORY, value: {{ . | quote }}}
  {{- end }}
  {{- with $v.certificate.acme.email }}
  - {name: VEGA_ACME_EMAIL, value: {{ . | quote }}}
  {{- end }}
  {{- end }}
  - {name: VEGA_VERIFICATION_API_PATH, value: {{ $v.backend.userUrl | quote }}}
  - {name: VEGA_VERIFICATION_ACCOUNT_API_PATH, value: {{ $v.backend.accountUrl | quote }}}
  {{- with $v.backend.transactionUrl }}
  - {name: VEGA_VERIFICATION_TRANSACTION_API_PATH, value: {{ . | quote }}}
  {{- end }}
  {{- with $v.backend.callbackUrl }}
  - {name: VEGA_VERIFICATION_CALLBACK_API_PATH, value: {{ . | quote }}}
  {{- end }}
  - {name: VEGA_DATABASE_FILE, value: /var/lib/enclave/enclave.db}
  {{- if and (eq $v.shape "shared") (not (hasKey $v.settings "VEGA_UNSAFE_SERVER_HOST")) }}
  - {name: VEGA_UNSAFE_SERVER_HOST, value: 0.0.0.0}
  {{- end }}
  - {name: VEGA_METRICS_LISTEN, value: ":9464"}
  {{- if not (hasKey $v.settings "VEGA_SHUTDOWN_DELAY_MS") }}
  - {name: VEGA_SHUTDOWN_DELAY_MS, value: "6000"}
  {{- end }}
  {{- range $name, $key := include "vasp-enclave.secretsInUse" . | fromYaml }}
  - {name: {{ $name }}_FILE, value: {{ printf "/run/secrets/vega/%s" $key | quote }}}
  {{- end }}
  {{- range $name, $value := $v.settings }}
  - {name: {{ $name }}, value: {{ $value | quote }}}
  {{- end }}
ports:
  - {name: public, containerPort: 8443}
  {{- if and (not $v.certificate.secretName) (eq $v.certificate.acme.challenge "http-01") }}
  - {name: challenge, containerPort: 8480}
  {{- end }}
  {{- if eq $v.shape "shared" }}
  - {name: backend, containerPort: 21117}
  {{- end }}
  - {name: metrics, containerPort: 9464}
startupProbe:
  exec: {command: [/usr/local/bin/enclave, healthcheck, --startup]}
  periodSeconds: 3
  timeoutSeconds: 5
  failureThreshold: {{ div (add (int $v.startupSeconds) 2) 3 }}
readinessProbe:
  exec: {command: [/usr/local/bin/enclave, healthcheck]}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 1
livenessProbe:
  exec: {command: [/usr/local/bin/enclave, healthcheck, --live]}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
resources: {{- toYaml $v.resources | nindent 2 }}
volumeMounts:
  - {name: history, mountPath: /var/lib/enclave}
  - {name: vega-config, mountPath: /etc/vega, readOnly: true}
  - {name: vega-secrets, mountPath: /run/secrets/vega, readOnly: true}
  {{- if $v.certificate.secretName }}
  - {name: vega-tls, mountPath: /run/secrets/tls, readOnly: true}
  {{- end }}
  {{- with $v.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
