# Completion of marqueue for bash. The program is asked for what can stand at the cursor.
_marqueue() {
    local -a words=()
    local word last="" quote="" index
    for ((index = 0; index <= COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        # bash splits --option=value at the "=", which is in COMP_WORDBREAKS.
        if [[ ${#words[@]} -gt 1 && ${words[-1]} == --* && ($word == "=" || $last == "=") ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        last=$word
    done
    case $word in \"* | \'*) quote=${word:0:1} ;; esac
    word=${words[-1]#"$quote"}
    [[ $quote ]] || word=${word//\\/}
    words[-1]=$word
    mapfile -t COMPREPLY < <(COMPLETE=bash _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) "$1" -- "${words[@]}" 2>/dev/null)
    for index in "${!COMPREPLY[@]}"; do
        word=${COMPREPLY[index]}
        [[ $word == */ || $word == *= ]] && compopt -o nospace
        # Only what follows the "=" is replaced.
        [[ ${words[-1]} == --*=* ]] && word=${word#"${words[-1]%%=*}="}
        # A name with blanks needs quoting; a leading ~ must stay one.
        [[ $quote || $word == "~/"* ]] || printf -v word %q "$word"
        COMPREPLY[index]=$word
    done
} 2>/dev/null
# Jobs come newest first. bash before 4.4 has no nosort.
complete -o nosort -F _marqueue marqueue 2>/dev/null || complete -F _marqueue marqueue
